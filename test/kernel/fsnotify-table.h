// SPDX-License-Identifier: MIT
//
// One inotify and one fanotify group for a program that shows which events a change made: everything is read without
// waiting, and printed as one row, `name <tab> listener <tab> EVENT:directory/name ...`.
//
// Both merge an event with an equal one that is not read yet, so that a row does not show what came twice. A queue that is
// full is not merged with: where a row is about "once", the queue is as long as the row, and one more is an OVERFLOW.

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
#define MAX_EVENTS 16384

// Linux 6.5
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID AT_REMOVEDIR
#endif

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

// The fanotify group is shown if it has a mark.
struct listener {
	int in, fan;
	int marked;
	int ndirs;
	struct dir dirs[MAX_DIRS];
};

static const struct { uint32_t mask; const char *name; } names[] = {
	{ IN_CREATE, "CREATE" }, { IN_DELETE, "DELETE" }, { IN_MOVED_FROM, "MOVED_FROM" },
	{ IN_MOVED_TO, "MOVED_TO" }, { IN_MOVE_SELF, "MOVE_SELF" }, { IN_DELETE_SELF, "DELETE_SELF" },
	{ IN_IGNORED, "IGNORED" }, { IN_Q_OVERFLOW, "OVERFLOW" }, { FAN_RENAME, "RENAME" },
};

#define DIRENT (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define FAN_DIRENT (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_RENAME | FAN_ONDIR)

static void print_event(uint32_t mask, const char *label, const char *name)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (mask & names[i].mask)
			printf(" %s%s:%s%s%s", names[i].name, mask & IN_ISDIR ? "+DIR" : "", label,
			       *name ? "/" : "", name);
}

static void queue_length(const char *backend, int events)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/proc/sys/fs/%s/max_queued_events", backend);
	snprintf(text, sizeof(text), "%d", events);
	write_file(path, text);
}

// Queues that have room for so many events.
static void listen_start_for(struct listener *l, int inotify, int fanotify)
{
	memset(l, 0, sizeof(*l));
	queue_length("inotify", inotify);
	queue_length("fanotify", fanotify);
	must(l->in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1");
	must(l->fan = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY),
	     "fanotify_init");
}

static void listen_start(struct listener *l)
{
	listen_start_for(l, MAX_EVENTS, MAX_EVENTS);
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
	// Handles of sysfs cannot be opened, and it gives them to who says that they need not be.
	if (name_to_handle_at(AT_FDCWD, path, &f.h, &mount_id, 0) == 0 ||
	    name_to_handle_at(AT_FDCWD, path, &f.h, &mount_id, AT_HANDLE_FID) == 0) {
		d->handle_bytes = f.h.handle_bytes;
		memcpy(d->handle, f.h.f_handle, f.h.handle_bytes);
	}
}

static void mark(struct listener *l, const char *path, unsigned how)
{
	if (fanotify_mark(l->fan, FAN_MARK_ADD | how, FAN_DIRENT | FAN_EVENT_ON_CHILD, AT_FDCWD, path) == 0) {
		l->marked = 1;
		return;
	}
	// Before 6.6 kernfs has no file system id, and nothing in it can be reported by file handle.
	if (errno != ENODEV)
		die(path);
	printf("mark\tfanotify\t ENODEV\n");
}

static void listen_filesystem(struct listener *l, const char *path)
{
	mark(l, path, FAN_MARK_FILESYSTEM);
}

// One directory, for both groups: sysfs takes no file system mark, and what is beside must not be told.
static void listen_both(struct listener *l, const char *path, const char *label)
{
	listen_dir(l, path, label, 1);
	mark(l, path, 0);
}

// A watch and a mark of listen_both() are removed; the groups stay.
static void unlisten(struct listener *l, const char *path)
{
	char ignored[sizeof(struct inotify_event)];

	must(inotify_rm_watch(l->in, l->dirs[0].wd), "inotify_rm_watch");
	must(read(l->in, ignored, sizeof(ignored)), "IN_IGNORED");
	if (l->marked)
		must(fanotify_mark(l->fan, FAN_MARK_REMOVE, FAN_DIRENT | FAN_EVENT_ON_CHILD, AT_FDCWD, path), path);
}

static void listen_stop(struct listener *l)
{
	close(l->in);
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
				if (e->wd >= 0 && l->dirs[i].wd == e->wd)
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

	if (!l->marked)
		return;
	printf("%s\tfanotify\t", name);
	while ((n = read(l->fan, buf, sizeof(buf))) > 0) {
		struct fanotify_event_metadata *m = (void *)buf;

		for (; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
			struct fanotify_event_info_fid *info = (void *)(m + 1);
			struct file_handle *h = (void *)info->handle;
			const char *label = "?";

			// An overflow has no directory.
			if (m->event_len == m->metadata_len) {
				print_event(m->mask, label, "");
				continue;
			}
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
static int show_files(const char *name, const char *path, const char *prefix)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	if (!d)
		die(path);
	printf("%s\treaddir\t", name);
	while ((e = readdir(d)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)))
			n += printf(" %s", e->d_name) > 0;
	putchar('\n');
	closedir(d);
	return n;
}
