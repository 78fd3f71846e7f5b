/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents as zstd frames: each is one frame with its content size and zstd's
 * own checksum, so that `zstd -t` can check a snapshot. The contexts are made
 * at first use and kept: a reader never compresses.
 */
#include <errno.h>

/* For ZSTD_d_forceIgnoreChecksum (zstd.h, since 1.4.9). */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "format/image/frame-internal.h"
#include "format/image/ondisk.h"

struct SnapCodec {
	int level;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	void *buffer;
};

G_STATIC_ASSERT(SNAP_EXTENT_PAGES == SNAP_DISK_EXTENT_PAGES);
G_STATIC_ASSERT(SNAP_EXTENT_BOUND <= SNAP_DISK_EXTENT_MAX);
G_STATIC_ASSERT(ZSTD_COMPRESSBOUND(SNAP_EXTENT_BYTES) <= SNAP_EXTENT_BOUND);

SnapCodec *snap_codec_new(int level)
{
	SnapCodec *codec = g_new0(SnapCodec, 1);

	codec->level = level;
	return codec;
}

void snap_codec_free(SnapCodec *codec)
{
	if (!codec)
		return;
	ZSTD_freeCCtx(codec->cctx);
	ZSTD_freeDCtx(codec->dctx);
	g_free(codec->buffer);
	g_free(codec);
}

void *snap_codec_buffer(SnapCodec *codec)
{
	if (!codec->buffer)
		codec->buffer = g_malloc(SNAP_DISK_EXTENT_MAX);
	return codec->buffer;
}

void snap_codec_set_level(SnapCodec *codec, int level)
{
	codec->level = level;
}

static int compressor_make(SnapCodec *codec)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();

	if (!c)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 1);
	codec->cctx = c;
	return 0;
}

ssize_t snap_codec_compress(SnapCodec *codec, const void *data, guint pages,
			    void *ret)
{
	size_t n;
	int r = codec->cctx ? 0 : compressor_make(codec);

	if (r < 0)
		return r;
	ZSTD_CCtx_setParameter(codec->cctx, ZSTD_c_compressionLevel,
			       codec->level);
	n = ZSTD_compress2(codec->cctx, ret, SNAP_EXTENT_BOUND, data,
			   (size_t)pages * SNAP_PAGE);
	/* The buffer is large enough, so the error can only be a lack of
	 * memory. */
	return ZSTD_isError(n) ? -ENOMEM : (ssize_t)n;
}

int snap_codec_look(const void *data, size_t size, size_t *ret_size,
		    guint *ret_pages)
{
	unsigned long long content = ZSTD_getFrameContentSize(data, size);
	size_t n;

	if (content == ZSTD_CONTENTSIZE_UNKNOWN ||
	    content == ZSTD_CONTENTSIZE_ERROR || content == 0 ||
	    content % SNAP_PAGE || content > SNAP_EXTENT_BYTES)
		return -EBADMSG;
	n = ZSTD_findFrameCompressedSize(data, size);
	if (ZSTD_isError(n) || n > SNAP_DISK_EXTENT_MAX)
		return -EBADMSG;
	*ret_size = n;
	*ret_pages = (guint)(content / SNAP_PAGE);
	return 0;
}

/* Decompresses; with `trusted`, zstd does not compare its own checksum of the
 * pages. A library that does not know how compares it: that only costs time. */
static int decompress(SnapCodec *codec, const void *frame, size_t size,
		      void *ret, guint pages, bool trusted)
{
	size_t n, frame_size;
	guint frame_pages;

	if (snap_codec_look(frame, size, &frame_size, &frame_pages) < 0 ||
	    frame_size != size || frame_pages != pages)
		return -EBADMSG;
	if (!codec->dctx)
		codec->dctx = ZSTD_createDCtx();
	if (!codec->dctx)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(codec->dctx, ZSTD_d_forceIgnoreChecksum,
			       trusted ? ZSTD_d_ignoreChecksum
				       : ZSTD_d_validateChecksum);
	n = ZSTD_decompressDCtx(codec->dctx, ret, (size_t)pages * SNAP_PAGE,
				frame, size);
	return n == (size_t)pages * SNAP_PAGE ? 0 : -EBADMSG;
}

int snap_codec_decompress(SnapCodec *codec, const void *frame, size_t size,
			  void *ret, guint pages)
{
	return decompress(codec, frame, size, ret, pages, false);
}

int snap_codec_decompress_trusted(SnapCodec *codec, const void *frame,
				  size_t size, void *ret, guint pages)
{
	return decompress(codec, frame, size, ret, pages, true);
}

char *snap_codec_library(void)
{
	return g_strconcat("zstd ", ZSTD_versionString(), NULL);
}
