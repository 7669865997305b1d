// SPDX-License-Identifier: MIT
//
// One inotify and one fanotify group for a program that shows which events a change made: everything is read without
// waiting, and printed as one row, `name <tab> listener <tab> EVENT:directory/name ...`.

#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MAX_DIRS 16

static void die(const char *what)
{
	fprintf(stderr, "kernfs-events: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void must(int result, const char *what)
{
	if (result < 0)
		die(what);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd, path);
	must(write(fd, text, strlen(text)), path);
	close(fd);
}

struct dir {
	const char *label;
	int wd;
	unsigned handle_bytes;
	unsigned char handle[128];
};

// One inotify and one fanotify group. Either may be absent: sysfs takes no file system mark.
struct listener {
	int in, fan;
	int ndirs;
	struct dir dirs[MAX_DIRS];
};

static const struct { uint32_t mask; const char *name; } names[] = {
	{ IN_CREATE, "CREATE" }, { IN_DELETE, "DELETE" }, { IN_MOVED_FROM, "MOVED_FROM" },
	{ IN_MOVED_TO, "MOVED_TO" }, { IN_MOVE_SELF, "MOVE_SELF" }, { IN_DELETE_SELF, "DELETE_SELF" },
	{ IN_IGNORED, "IGNORED" }, { IN_Q_OVERFLOW, "OVERFLOW" }, { FAN_RENAME, "RENAME" },
};

#define DIRENT (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

static void print_event(uint32_t mask, const char *label, const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (mask & names[i].mask)
			printf(" %s%s:%s%s%s", names[i].name, mask & IN_ISDIR ? "+DIR" : "", label,
			       *name ? "/" : "", name);
}

static void listen_start(struct listener *l)
{
	memset(l, 0, sizeof(*l));
	l->fan = -1;
	must(l->in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1");
}

static void listen_dir(struct listener *l, const char *path, const char *label, int watch)
{
	struct dir *d = &l->dirs[l->ndirs++];
	struct { struct file_handle h; unsigned char bytes[128]; } f = { .h.handle_bytes = 128 };
	int mount_id;

	d->label = label;
	d->wd = -1;
	if (watch) {
		d->wd = inotify_add_watch(l->in, path, DIRENT | IN_MOVE_SELF | IN_ONLYDIR);
		must(d->wd, path);
	}
	if (name_to_handle_at(AT_FDCWD, path, &f.h, &mount_id, 0) == 0) {
		d->handle_bytes = f.h.handle_bytes;
		memcpy(d->handle, f.h.f_handle, f.h.handle_bytes);
	}
}

static void listen_filesystem(struct listener *l, const char *path)
{
	l->fan = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	must(l->fan, "fanotify_init");
	if (fanotify_mark(l->fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
			  FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR, AT_FDCWD, path)) {
		// Before 6.6 kernfs has no file system id, and nothing in it can be reported by file handle.
		if (errno != ENODEV)
			die(path);
		printf("file system mark\tfanotify\t ENODEV\n");
		close(l->fan);
		l->fan = -1;
	}
}

static void listen_stop(struct listener *l)
{
	close(l->in);
	if (l->fan >= 0)
		close(l->fan);
}

static void show_inotify(struct listener *l, const char *name)
{
	char buf[65536] __attribute__((aligned(8)));
	ssize_t n;

	printf("%s\tinotify\t", name);
	while ((n = read(l->in, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + n;) {
			struct inotify_event *e = (void *)p;
			const char *label = "?";

			for (int i = 0; i < l->ndirs; i++)
				if (l->dirs[i].wd == e->wd)
					label = l->dirs[i].label;
			print_event(e->mask, label, e->len ? e->name : "");
			p += sizeof(*e) + e->len;
		}
	}
	if (errno != EAGAIN)
		die("read inotify");
	putchar('\n');
}

static void show_fanotify(struct listener *l, const char *name)
{
	char buf[65536] __attribute__((aligned(8)));
	ssize_t n;

	if (l->fan < 0)
		return;
	printf("%s\tfanotify\t", name);
	while ((n = read(l->fan, buf, sizeof(buf))) > 0) {
		struct fanotify_event_metadata *m = (void *)buf;

		for (; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
			struct fanotify_event_info_fid *info = (void *)(m + 1);
			struct file_handle *h = (void *)info->handle;
			const char *label = "?";

			for (int i = 0; i < l->ndirs; i++)
				if (l->dirs[i].handle_bytes == h->handle_bytes &&
				    !memcmp(l->dirs[i].handle, h->f_handle, h->handle_bytes))
					label = l->dirs[i].label;
			print_event(m->mask, label, (char *)h->f_handle + h->handle_bytes);
		}
	}
	if (errno != EAGAIN)
		die("read fanotify");
	putchar('\n');
}

static void show(struct listener *l, const char *name)
{
	show_inotify(l, name);
	show_fanotify(l, name);
	fflush(stdout);
}

// What the directory really has, to compare the events with.
static void show_files(const char *name, const char *path, const char *prefix)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		die(path);
	printf("%s\treaddir\t", name);
	while ((e = readdir(d)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)))
			printf(" %s", e->d_name);
	putchar('\n');
	closedir(d);
}
