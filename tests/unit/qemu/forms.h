/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The forms a migration stream comes in, each as small as it can be. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "tests/lib/stream.h"

struct form {
	const char *name;
	GByteArray *(*make)(void);
	bool opaque;	  /* cannot be split */
	bool undescribed; /* ends without a description */
	bool canonical;	  /* is what the synthesizer makes of it */
};

extern const struct form forms[];
extern const guint n_forms;

/* The stream of the form of that name. */
GByteArray *form_make(const char *name);

#define FORM_DESCRIPTION                                                       \
	"{\"configuration\":{},\"devices\":[{\"name\":\"cpu\"}]}"
