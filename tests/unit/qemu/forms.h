/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The forms of a migration stream, each as small as possible. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "tests/lib/stream.h"

struct form {
	const char *name;
	GByteArray *(*make)(void);
	bool opaque;	  /* cannot be split */
	bool undescribed; /* ends without a description */
	bool canonical;	  /* is the form that the synthesizer makes */
};

extern const struct form forms[];
extern const guint n_forms;

/* Makes the stream of the form of that name. */
GByteArray *form_make(const char *name);

#define FORM_DESCRIPTION                                                       \
	"{\"configuration\":{},\"devices\":[{\"name\":\"cpu\"}]}"
