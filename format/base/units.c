/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "format/base/error.h"

int snap_size_parse(const char *text, uint64_t *ret_size, GError **error)
{
	static const char suffixes[] = "kmgt";
	uint64_t size = 0;
	const char *p = text;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(size, 10, &size) ||
		    __builtin_add_overflow(size, (uint64_t)(*p - '0'), &size))
			return snap_fail(error, EINVAL, "%s: too large", text);
	if (p == text)
		return snap_fail(error, EINVAL, "\"%s\": not a size", text);
	if (*p) {
		const char *s = strchr(suffixes, tolower((unsigned char)*p));
		unsigned shift;

		if (!s || p[1])
			return snap_fail(error, EINVAL,
					 "\"%s\": not a size (64k, 64m, 1g)",
					 text);
		shift = 10 * (unsigned)(s - suffixes + 1);
		if (size > UINT64_MAX >> shift)
			return snap_fail(error, EINVAL, "%s: too large", text);
		size <<= shift;
	}
	*ret_size = size;
	return 0;
}

char *snap_size_format(uint64_t size)
{
	static const char *const units[] = { "KiB", "MiB", "GiB",
					     "TiB", "PiB", "EiB" };
	double n = (double)size;
	int unit = -1;

	if (size < SNAP_KIB)
		return g_strdup_printf("%u B", (unsigned)size);
	while (n >= 999.5 && unit < (int)G_N_ELEMENTS(units) - 1) {
		n /= 1024;
		unit++;
	}
	if (unit < 0) {
		n /= 1024;
		unit = 0;
	}
	return g_strdup_printf("%.*f %s",
			       n < 9.995   ? 2
			       : n < 99.95 ? 1
					   : 0,
			       n, units[unit]);
}
