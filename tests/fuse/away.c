/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file system that goes away when it is told to, as a cluster does: it shows
 * the folder SOURCE at POINT. While the file ORDER exists, calls do not return;
 * if it holds names of calls ("write fsync"), only those. The first one that
 * hangs makes the file ORDER.hangs. Signals end no call, as with ceph-fuse,
 * unless "interruptible" is among the names.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

static const char *source, *order;

/* ---- hanging ---- */

/* True when the order is to let this call hang. */
static bool ordered(const char *call)
{
	char text[256] = " ";
	char word[32];
	FILE *file = fopen(order, "r");
	size_t n;

	if (!file)
		return false;
	n = fread(text + 1, 1, sizeof(text) - 3, file);
	fclose(file);
	if (!n)
		return strcmp(call, "interruptible");
	text[n + 1] = ' ';
	snprintf(word, sizeof(word), " %s ", call);
	return strstr(text, word);
}

/* 0, or -EINTR. */
static int wait_for(const char *call)
{
	bool told = false;

	while (ordered(call)) {
		if (!told) {
			char path[4096];

			snprintf(path, sizeof(path), "%s.hangs", order);
			close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		}
		told = true;
		usleep(10000);
		if (ordered("interruptible") && fuse_interrupted())
			return -EINTR;
	}
	return 0;
}

/* The result of a call of the kernel, as libfuse wants it. */
#define RESULT(call)                                                           \
	do {                                                                   \
		long done = (long)(call);                                      \
		return done < 0 ? -errno : (int)done;                          \
	} while (0)

/* The path in the source; in a buffer of the caller's. */
static const char *at(char buf[4096], const char *path)
{
	snprintf(buf, 4096, "%s%s", source, path);
	return buf;
}

/* Waits, and returns what ended that, but for the order. */
#define WAIT(call)                                                             \
	do {                                                                   \
		int waited = wait_for(call);                                   \
		if (waited < 0)                                                \
			return waited;                                         \
	} while (0)

/* Waits, then has the path in `p`. */
#define BEGIN(call, path)                                                      \
	char buf[4096];                                                        \
	const char *p = at(buf, path);                                         \
                                                                               \
	WAIT(call)

/* ---- names ---- */

static int on_getattr(const char *path, struct stat *st,
		      struct fuse_file_info *fi)
{
	BEGIN("getattr", path);
	RESULT(fi ? fstat((int)fi->fh, st) : lstat(p, st));
}

static int on_readlink(const char *path, char *target, size_t size)
{
	BEGIN("readlink", path);
	ssize_t n = readlink(p, target, size - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return 0;
}

static int on_mknod(const char *path, mode_t mode, dev_t dev)
{
	BEGIN("mknod", path);
	RESULT(mknod(p, mode, dev));
}

static int on_mkdir(const char *path, mode_t mode)
{
	BEGIN("mkdir", path);
	RESULT(mkdir(p, mode));
}

static int on_unlink(const char *path)
{
	BEGIN("unlink", path);
	RESULT(unlink(p));
}

static int on_rmdir(const char *path)
{
	BEGIN("rmdir", path);
	RESULT(rmdir(p));
}

static int on_symlink(const char *target, const char *path)
{
	BEGIN("symlink", path);
	RESULT(symlink(target, p));
}

static int on_rename(const char *path, const char *to, unsigned flags)
{
	char to_buf[4096];

	BEGIN("rename", path);
	RESULT(renameat2(AT_FDCWD, p, AT_FDCWD, at(to_buf, to), flags));
}

static int on_link(const char *path, const char *to)
{
	char to_buf[4096];

	BEGIN("link", path);
	RESULT(link(p, at(to_buf, to)));
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	BEGIN("chmod", path);
	RESULT(chmod(p, mode));
}

static int on_chown(const char *path, uid_t uid, gid_t gid,
		    struct fuse_file_info *fi)
{
	BEGIN("chown", path);
	RESULT(lchown(p, uid, gid));
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	BEGIN("truncate", path);
	RESULT(fi ? ftruncate((int)fi->fh, size) : truncate(p, size));
}

static int on_utimens(const char *path, const struct timespec times[2],
		      struct fuse_file_info *fi)
{
	BEGIN("utimens", path);
	RESULT(utimensat(AT_FDCWD, p, times, AT_SYMLINK_NOFOLLOW));
}

static int on_statfs(const char *path, struct statvfs *st)
{
	BEGIN("statfs", path);
	RESULT(statvfs(p, st));
}

static int on_setxattr(const char *path, const char *name, const char *value,
		       size_t size, int flags)
{
	BEGIN("setxattr", path);
	RESULT(lsetxattr(p, name, value, size, flags));
}

static int on_getxattr(const char *path, const char *name, char *value,
		       size_t size)
{
	BEGIN("getxattr", path);
	RESULT(lgetxattr(p, name, value, size));
}

static int on_listxattr(const char *path, char *names, size_t size)
{
	BEGIN("listxattr", path);
	RESULT(llistxattr(p, names, size));
}

static int on_removexattr(const char *path, const char *name)
{
	BEGIN("removexattr", path);
	RESULT(lremovexattr(p, name));
}

static int on_readdir(const char *path, void *names, fuse_fill_dir_t fill,
		      off_t offset, struct fuse_file_info *fi,
		      enum fuse_readdir_flags flags)
{
	BEGIN("readdir", path);
	DIR *dir = opendir(p);
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct stat st = { .st_ino = entry->d_ino,
				   .st_mode = (mode_t)entry->d_type << 12 };

		fill(names, entry->d_name, &st, 0, 0);
	}
	closedir(dir);
	return 0;
}

/* ---- files ---- */

static int opened(int fd, struct fuse_file_info *fi)
{
	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	return 0;
}

static int on_open(const char *path, struct fuse_file_info *fi)
{
	BEGIN("open", path);
	return opened(open(p, fi->flags | O_CLOEXEC), fi);
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	BEGIN("create", path);
	return opened(open(p, fi->flags | O_CREAT | O_CLOEXEC, mode), fi);
}

static int on_read(const char *path, char *data, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	WAIT("read");
	RESULT(pread((int)fi->fh, data, size, offset));
}

static int on_write(const char *path, const char *data, size_t size,
		    off_t offset, struct fuse_file_info *fi)
{
	WAIT("write");
	RESULT(pwrite((int)fi->fh, data, size, offset));
}

static int on_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	WAIT("fsync");
	RESULT(data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int on_fsyncdir(const char *path, int data_only,
		       struct fuse_file_info *fi)
{
	WAIT("fsyncdir");
	return 0;
}

static int on_release(const char *path, struct fuse_file_info *fi)
{
	close((int)fi->fh);
	return 0;
}

static void *on_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	/* Nothing is answered by the kernel itself. */
	config->entry_timeout = config->attr_timeout = 0;
	config->use_ino = 1;
	config->direct_io = 0;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = on_init,
	.getattr = on_getattr,
	.readlink = on_readlink,
	.mknod = on_mknod,
	.mkdir = on_mkdir,
	.unlink = on_unlink,
	.rmdir = on_rmdir,
	.symlink = on_symlink,
	.rename = on_rename,
	.link = on_link,
	.chmod = on_chmod,
	.chown = on_chown,
	.truncate = on_truncate,
	.utimens = on_utimens,
	.statfs = on_statfs,
	.setxattr = on_setxattr,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.removexattr = on_removexattr,
	.readdir = on_readdir,
	.open = on_open,
	.create = on_create,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
	.fsyncdir = on_fsyncdir,
	.release = on_release,
};

int main(int argc, char **argv)
{
	char options[] = "max_threads=100,auto_unmount,allow_other";
	char *arguments[] = { argv[0], (char *)"-f", (char *)"-o",
			      options, NULL,	     NULL };

	if (argc != 4) {
		fputs("usage: away SOURCE POINT ORDER\n", stderr);
		return 2;
	}
	source = argv[1];
	order = argv[3];
	arguments[4] = argv[2];
	umask(0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return fuse_main(5, arguments, &operations, NULL);
}
