// SPDX-License-Identifier: MIT
//
// Changes by users and by the kernel in cgroupfs and sysfs against watchers, readers, mounts and cache drops, all at
// once for the given number of seconds. It checks nothing by itself: the kernel log must stay free of alarms.
// cc -O1 -Wall -o kernfs-hammer kernfs-hammer.c

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOP "/sys/fs/cgroup/hammer"
#define MAKERS 2
#define CHILDREN 4

static time_t end;

static int running(void)
{
	return time(NULL) < end;
}

// Everything races on purpose: what is gone by now is no error.
static void poke(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0) {
		// Busy or gone.
	}
	close(fd);
}

static const char *child(int maker, int number)
{
	static char path[128];

	snprintf(path, sizeof(path), TOP "/m%d_%d", maker, number);
	return path;
}

static void drain(int fd)
{
	char buf[8192];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

static void toggle_controllers(void)
{
	while (running()) {
		poke(TOP "/cgroup.subtree_control", "+pids +memory");
		poke(TOP "/cgroup.subtree_control", "-pids -memory");
	}
}

static void make_cgroups(int maker)
{
	while (running()) {
		for (int i = 0; i < CHILDREN; i++)
			mkdir(child(maker, i), 0755);
		for (int i = 0; i < CHILDREN; i++)
			rmdir(child(maker, i));
	}
}

static void hide_files(void)
{
	while (running()) {
		poke(TOP "/cgroup.pressure", "0");
		poke(TOP "/cgroup.pressure", "1");
	}
}

static void watch_inotify(void)
{
	while (running()) {
		int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

		for (int round = 0; round < 50; round++) {
			// A one-shot watch is removed from inside the event, under the locks of kernfs.
			uint32_t once = round & 1 ? IN_ONESHOT : 0;

			for (int i = 0; i < MAKERS * CHILDREN; i++)
				inotify_add_watch(fd, child(i % MAKERS, i / MAKERS), IN_ALL_EVENTS | once);
			inotify_add_watch(fd, TOP, IN_ALL_EVENTS);
			inotify_add_watch(fd, "/sys/block", IN_ALL_EVENTS | IN_ONESHOT);
			drain(fd);
		}
		close(fd);
	}
}

static void watch_fanotify(void)
{
	const uint64_t mask = FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_DELETE_SELF | FAN_ONDIR;

	while (running()) {
		int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK, O_RDONLY);

		if (fd < 0)
			return;
		fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, "/sys/fs/cgroup");
		for (int i = 0; i < 300; i++) {
			fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_EVICTABLE, mask, AT_FDCWD, TOP);
			drain(fd);
		}
		close(fd);
	}
}

static void read_cgroups(void)
{
	while (running()) {
		for (int i = 0; i < MAKERS * CHILDREN; i++) {
			const char *path = child(i % MAKERS, i / MAKERS);
			DIR *dir = opendir(path);
			char file[160];
			struct stat st;

			snprintf(file, sizeof(file), "%s/pids.max", path);
			stat(file, &st);
			if (!dir)
				continue;
			while (readdir(dir))
				;
			closedir(dir);
		}
	}
}

static void add_devices(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	while (control >= 0 && running()) {
		ioctl(control, LOOP_CTL_ADD, 50);
		ioctl(control, LOOP_CTL_REMOVE, 50);
	}
}

// Each turn makes and kills a super block of sysfs, and of cgroup v1.
static void mount_sysfs(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return;
	mkdir("/tmp/hammer-sysfs", 0755);
	while (running() && !mount("none", "/tmp/hammer-sysfs", "sysfs", 0, NULL)) {
		int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

		inotify_add_watch(fd, "/tmp/hammer-sysfs/block", IN_ALL_EVENTS);
		close(fd);
		umount2("/tmp/hammer-sysfs", MNT_DETACH);
	}
}

static void rename_v1(void)
{
	mkdir("/tmp/hammer-v1", 0755);
	while (running() && !mount("none", "/tmp/hammer-v1", "cgroup", 0, "none,name=hammer")) {
		int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

		mkdir("/tmp/hammer-v1/a", 0755);
		inotify_add_watch(fd, "/tmp/hammer-v1", IN_ALL_EVENTS);
		for (int i = 0; i < 10; i++) {
			rename("/tmp/hammer-v1/a", "/tmp/hammer-v1/b");
			rename("/tmp/hammer-v1/b", "/tmp/hammer-v1/a");
		}
		rmdir("/tmp/hammer-v1/a");
		close(fd);
		umount2("/tmp/hammer-v1", MNT_DETACH);
	}
}

static void drop_caches(void)
{
	// 4: without a line in the log each time, which would push out what the log is read for.
	while (running())
		poke("/proc/sys/vm/drop_caches", "6");
}

static void start(void (*work)(void))
{
	if (fork() == 0) {
		work();
		_exit(0);
	}
}

int main(int argc, char **argv)
{
	end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
	mkdir(TOP, 0755);
	poke("/sys/fs/cgroup/cgroup.subtree_control", "+pids +memory");
	for (int maker = 0; maker < MAKERS; maker++) {
		if (fork() == 0) {
			make_cgroups(maker);
			_exit(0);
		}
	}
	start(toggle_controllers);
	start(hide_files);
	start(watch_inotify);
	start(watch_inotify);
	start(watch_fanotify);
	start(read_cgroups);
	start(add_devices);
	start(mount_sysfs);
	start(rename_v1);
	start(drop_caches);
	while (wait(NULL) > 0)
		;
	return 0;
}
