// SPDX-License-Identifier: MIT
//
// Prints which fsnotify events a kernel generates for changes in kernfs, one row for each case and listener:
//
//   case <tab> listener <tab> EVENT directory/name ...
//
// Everything is read without waiting, right after the call that made the change has returned: an event that comes
// "soon" is not in the table. Runs as root in a throw-away kernel: it makes cgroups, devices and namespaces.
// cc -O1 -Wall -o kernfs-events kernfs-events.c

#define _GNU_SOURCE
#include <linux/loop.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fsnotify-table.h"

#define CG "/sys/fs/cgroup"
#define V1 "/tmp/v1"

// ---- cgroup ----------------------------------------------------------------------------------------------------

// Files that a controller has in a directory.
static int files;

static void cgroup_controllers(void)
{
	struct listener l;

	write_file(CG "/cgroup.subtree_control", "+pids");
	must(mkdir(CG "/t", 0755), "mkdir t");
	must(mkdir(CG "/t/cached", 0755), "mkdir cached");
	must(mkdir(CG "/t/fresh", 0755), "mkdir fresh");
	must(access(CG "/t/cached/cgroup.procs", F_OK), "cached");
	listen_start(&l);
	listen_dir(&l, CG "/t", "t", 1);
	listen_dir(&l, CG "/t/cached", "cached", 1);
	listen_dir(&l, CG "/t/fresh", "fresh", 0);
	listen_filesystem(&l, CG);
	// Nobody has "fresh" in memory: only the file system mark can ask for its events.
	write_file("/proc/sys/vm/drop_caches", "2");
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	show(&l, "controllers on");
	files = show_files("controller files", CG "/t/cached", "pids.");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	show(&l, "controllers off");
	for (int i = 0; i < 2; i++) {
		write_file(CG "/t/cgroup.subtree_control", "+pids");
		write_file(CG "/t/cgroup.subtree_control", "-pids");
	}
	show_inotify(&l, "controllers on, off, on, off");
	listen_stop(&l);
}

static void cgroup_once(void)
{
	struct listener l;

	listen_start_for(&l, files, files);
	listen_both(&l, CG "/t/cached", "cached");
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	show(&l, "controllers on, queue of as many");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	show(&l, "controllers off, queue of as many");
	listen_stop(&l);

	listen_start_for(&l, 1, 1);
	listen_both(&l, CG "/t", "t");
	for (int on = 0; on < 2; on++) {
		must(mkdir(CG "/t/user", 0755), "mkdir user");
		show(&l, on ? "mkdir with controllers, queue of one" : "mkdir, queue of one");
		must(rmdir(CG "/t/user"), "rmdir user");
		show(&l, on ? "rmdir with controllers, queue of one" : "rmdir, queue of one");
		write_file(CG "/t/cgroup.subtree_control", on ? "-pids" : "+pids");
	}
	listen_stop(&l);
}

static void cgroup_user(void)
{
	struct listener l;

	listen_start(&l);
	listen_dir(&l, CG "/t", "t", 1);
	listen_filesystem(&l, CG);
	must(mkdir(CG "/t/user", 0755), "mkdir user");
	show(&l, "mkdir by user");
	listen_dir(&l, CG "/t/user", "user", 1);
	must(access(CG "/t/user/cgroup.procs", F_OK), "user");
	must(rmdir(CG "/t/user"), "rmdir user");
	show(&l, "rmdir by user");
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	show_inotify(&l, "-");
	must(mkdir(CG "/t/user", 0755), "mkdir user");
	must(rmdir(CG "/t/user"), "rmdir user");
	show_inotify(&l, "mkdir and rmdir with controllers");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	listen_stop(&l);
}

static void cgroup_pressure(void)
{
	struct listener l;

	if (access(CG "/t/cgroup.pressure", F_OK))
		return;
	listen_start(&l);
	listen_dir(&l, CG "/t", "t", 1);
	show_files("pressure files", CG "/t", "");
	write_file(CG "/t/cgroup.pressure", "0");
	show_inotify(&l, "files hidden");
	write_file(CG "/t/cgroup.pressure", "1");
	show_inotify(&l, "files shown");
	listen_stop(&l);
}

static void cgroup_v1_rename(void)
{
	struct listener l;

	must(mkdir(V1 "/a", 0755), "mkdir a");
	listen_start_for(&l, 3, 3);
	listen_dir(&l, V1, "v1", 1);
	listen_dir(&l, V1 "/a", "a", 1);
	listen_filesystem(&l, V1);
	must(rename(V1 "/a", V1 "/b"), "rename");
	show(&l, "rename by user");
	listen_stop(&l);
	must(rmdir(V1 "/b"), "rmdir b");
}

static void cgroup_mounts(void)
{
	struct listener one, two;

	must(mkdir("/tmp/second", 0755), "mkdir second");
	must(mount("none", "/tmp/second", "cgroup2", 0, NULL), "mount second");
	listen_start_for(&one, files, 2 * files);
	listen_dir(&one, CG "/t/cached", "cached", 1);
	listen_dir(&one, CG "/t/fresh", "fresh", 0);
	listen_filesystem(&one, CG);
	listen_start_for(&two, files, 2 * files);
	listen_dir(&two, "/tmp/second/t/cached", "cached", 1);
	listen_dir(&two, "/tmp/second/t/fresh", "fresh", 0);
	listen_filesystem(&two, "/tmp/second");
	write_file("/tmp/second/t/cgroup.subtree_control", "+pids");
	show(&one, "two mounts, first");
	show(&two, "two mounts, second");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	show(&one, "two mounts, first, off");
	show(&two, "two mounts, second, off");
	listen_stop(&one);
	listen_stop(&two);
	must(umount("/tmp/second"), "umount second");
}

static void cgroup_namespace(void)
{
	struct listener l;

	write_file(CG "/t/fresh/cgroup.procs", "0");
	must(unshare(CLONE_NEWCGROUP | CLONE_NEWNS), "unshare");
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	must(mount("none", "/tmp/second", "cgroup2", 0, NULL), "mount in namespace");
	listen_start_for(&l, files, 2 * files);
	listen_dir(&l, "/tmp/second", "namespace", 1);
	listen_dir(&l, CG "/t/cached", "cached", 0);
	listen_filesystem(&l, "/tmp/second");
	must(access("/tmp/second/cgroup.procs", F_OK), "second");
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	show(&l, "cgroup namespace");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	show(&l, "cgroup namespace, off");
	listen_stop(&l);
	write_file(CG "/cgroup.procs", "0");
	must(umount("/tmp/second"), "umount in namespace");
}

// All that the kernel changes by itself in the directories of t. In t, above and beside nothing comes or goes.
static void change_below_t(void)
{
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	if (access(CG "/t/cached/cgroup.pressure", F_OK) == 0) {
		write_file(CG "/t/cached/cgroup.pressure", "0");
		write_file(CG "/t/cached/cgroup.pressure", "1");
	}
}

// A listener that is told of what a user does where it listens, on any kernel.
static void show_awake(struct listener *l, const char *path, const char *name)
{
	char made[128], row[128];

	snprintf(made, sizeof(made), "%s/own", path);
	snprintf(row, sizeof(row), "%s, its own", name);
	must(mkdir(made, 0755), made);
	must(rmdir(made), made);
	show(l, row);
}

static void cgroup_elsewhere(void)
{
	struct listener above, below, beside, other, removed, again;

	must(mkdir(CG "/t/cached/below", 0755), "mkdir below");
	must(mkdir(CG "/u", 0755), "mkdir u");
	must(mkdir(CG "/u/cached", 0755), "mkdir u/cached");
	must(mkdir(CG "/t/again", 0755), "mkdir again");
	must(mkdir(V1 "/t", 0755), "mkdir v1/t");
	must(mkdir(V1 "/t/cached", 0755), "mkdir v1/t/cached");

	listen_start(&above);
	listen_both(&above, CG, "top");
	listen_start(&below);
	listen_both(&below, CG "/t/cached/below", "below");
	listen_start(&beside);
	listen_both(&beside, CG "/u", "u");
	listen_both(&beside, CG "/u/cached", "u/cached");
	listen_start(&other);
	listen_dir(&other, V1 "/t", "v1/t", 1);
	listen_dir(&other, V1 "/t/cached", "v1/t/cached", 1);
	listen_filesystem(&other, V1);
	listen_start(&removed);
	listen_both(&removed, CG "/t/cached", "cached");
	show_awake(&above, CG, "watched above");
	show_awake(&below, CG "/t/cached/below", "watched below");
	show_awake(&beside, CG "/u/cached", "watched beside");
	show_awake(&other, V1 "/t", "watched in another hierarchy");
	show_awake(&removed, CG "/t/cached", "watched until now");
	unlisten(&removed, CG "/t/cached");

	// The name is there again, and the directory is another one.
	listen_start(&again);
	listen_both(&again, CG "/t/again", "again");
	show_awake(&again, CG "/t/again", "watched before it was made again");
	must(rmdir(CG "/t/again"), "rmdir again");
	show(&again, "-");
	must(mkdir(CG "/t/again", 0755), "mkdir again");
	must(access(CG "/t/again/cgroup.procs", F_OK), "again");

	listen_both(&above, CG "/t", "t");
	change_below_t();
	show(&above, "watched above");
	show(&below, "watched below");
	show(&beside, "watched beside");
	show(&other, "watched in another hierarchy");
	show(&removed, "watched until now");
	show(&again, "watched before it was made again");
	listen_stop(&above);
	listen_stop(&below);
	listen_stop(&beside);
	listen_stop(&other);
	listen_stop(&removed);
	listen_stop(&again);

	must(rmdir(CG "/t/again"), "rmdir again");
	must(rmdir(CG "/t/cached/below"), "rmdir below");
	must(rmdir(V1 "/t/cached"), "rmdir v1/t/cached");
	must(rmdir(V1 "/t"), "rmdir v1/t");
}

// ---- what stays in memory --------------------------------------------------------------------------------------

struct counts {
	long inodes, dentries;
};

static long first_number(const char *path)
{
	char text[128] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	must(fd, path);
	must(read(fd, text, sizeof(text) - 1), path);
	close(fd);
	return atol(text);
}

static struct counts count(void)
{
	struct counts c;

	c.inodes = first_number("/proc/sys/fs/inode-nr");
	c.dentries = first_number("/proc/sys/fs/dentry-state");
	return c;
}

static void show_more(const char *name, struct counts before)
{
	struct counts now = count();

	printf("%s\tmemory\t inodes:%+ld dentries:%+ld\n", name, now.inodes - before.inodes,
	       now.dentries - before.dentries);
}

#define MADE 20
#define ROUNDS 10

static void each_made(int make)
{
	char path[64];

	for (int i = 0; i < MADE; i++) {
		snprintf(path, sizeof(path), CG "/t/made%d", i);
		must(make ? mkdir(path, 0755) : rmdir(path), path);
	}
}

// Directories that nobody has looked into, files in them that come and go, and all of them removed.
static void memory_rows(const char *who)
{
	char row[128];
	struct counts before = count(), made;

	for (int i = 0; i < ROUNDS; i++)
		change_below_t();
	snprintf(row, sizeof(row), "%s, files came and went", who);
	show_more(row, before);
	each_made(1);
	made = count();
	write_file(CG "/t/cgroup.subtree_control", "+pids");
	snprintf(row, sizeof(row), "%s, files in new directories", who);
	show_more(row, made);
	write_file(CG "/t/cgroup.subtree_control", "-pids");
	each_made(0);
	snprintf(row, sizeof(row), "%s, directories removed", who);
	show_more(row, before);
}

static void cgroup_memory(void)
{
	struct listener l;
	struct counts before;

	// What it takes to do and to measure this is in memory before the first row: paths, and names that are gone.
	change_below_t();
	each_made(1);
	each_made(0);
	listen_start(&l);
	listen_stop(&l);
	count();

	before = count();
	memory_rows("nobody watches");
	listen_start(&l);
	listen_both(&l, CG "/u/cached", "u/cached");
	memory_rows("another directory is watched");
	listen_stop(&l);
	listen_start(&l);
	listen_both(&l, CG "/t/cached", "cached");
	memory_rows("a directory is watched");
	listen_stop(&l);
	listen_start(&l);
	listen_filesystem(&l, CG);
	memory_rows("the file system is watched");
	listen_stop(&l);
	show_more("nobody reads", before);
}

// ---- sysfs -----------------------------------------------------------------------------------------------------

static void sysfs_loop(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct listener l, elsewhere;

	must(control, "/dev/loop-control");
	listen_start_for(&l, 2, 2);
	listen_both(&l, "/sys/block", "block");
	listen_both(&l, "/sys/devices/virtual/block", "devices");
	listen_start(&elsewhere);
	listen_both(&elsewhere, "/sys/devices/virtual", "virtual");
	listen_both(&elsewhere, "/sys/devices/virtual/net", "net");
	must(ioctl(control, LOOP_CTL_ADD, 77), "LOOP_CTL_ADD");
	show(&l, "device added");
	must(access("/sys/block/loop77/size", F_OK), "loop77");
	must(ioctl(control, LOOP_CTL_REMOVE, 77), "LOOP_CTL_REMOVE");
	show(&l, "device removed");
	show(&elsewhere, "device added and removed elsewhere");
	listen_stop(&l);
	listen_stop(&elsewhere);
	close(control);
}

static void net_rename(const char *from, const char *to)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { 0 };

	strncpy(r.ifr_name, from, IFNAMSIZ - 1);
	strncpy(r.ifr_newname, to, IFNAMSIZ - 1);
	must(ioctl(fd, SIOCSIFNAME, &r), "SIOCSIFNAME");
	close(fd);
}

static void net_ask(const void *message, size_t size, const char *what)
{
	struct { struct nlmsghdr h; struct nlmsgerr e; char rest[512]; } reply;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	must(fd, "netlink");
	must(send(fd, message, size, 0), what);
	must(recv(fd, &reply, sizeof(reply), 0), what);
	errno = -reply.e.error;
	must(reply.e.error, what);
	close(fd);
}

static void net_move(const char *name, int netns)
{
	struct { struct nlmsghdr h; struct ifinfomsg i; struct rtattr a; uint32_t fd; } m = {
		.h = { .nlmsg_len = sizeof(m), .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.i = { .ifi_index = if_nametoindex(name) },
		.a = { .rta_len = RTA_LENGTH(4), .rta_type = IFLA_NET_NS_FD },
		.fd = netns,
	};

	net_ask(&m, sizeof(m), "RTM_NEWLINK");
}

static void net_add(const char *name)
{
	struct {
		struct nlmsghdr h; struct ifinfomsg i; struct rtattr n; char name[IFNAMSIZ];
		struct rtattr info, k; char kind[8];
	} m = {
		.h = { .nlmsg_len = sizeof(m), .nlmsg_type = RTM_NEWLINK,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL },
		.n = { .rta_len = RTA_LENGTH(IFNAMSIZ), .rta_type = IFLA_IFNAME },
		.info = { .rta_len = RTA_LENGTH(RTA_LENGTH(8)), .rta_type = IFLA_LINKINFO },
		.k = { .rta_len = RTA_LENGTH(8), .rta_type = IFLA_INFO_KIND },
		.kind = "dummy",
	};

	strncpy(m.name, name, IFNAMSIZ - 1);
	net_ask(&m, sizeof(m), "RTM_NEWLINK");
}

static void net_remove(const char *name)
{
	struct { struct nlmsghdr h; struct ifinfomsg i; } m = {
		.h = { .nlmsg_len = sizeof(m), .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.i = { .ifi_index = if_nametoindex(name) },
	};

	net_ask(&m, sizeof(m), "RTM_DELLINK");
}

// What is below a device has no tag of its own. A watch there stays in the namespace that the device leaves.
static void sysfs_net_below(int home, int away)
{
	struct listener here, there;

	net_add("below0");
	listen_start(&here);
	listen_both(&here, "/sys/class/net/below0/queues", "queues");
	show_files("net device queues", "/sys/class/net/below0/queues", "");
	net_move("below0", away);
	show(&here, "below a net device moved away");
	listen_start(&there);
	listen_both(&there, "/tmp/sys/class/net/below0/queues", "queues");
	must(setns(away, CLONE_NEWNET), "setns away");
	net_remove("below0");
	must(setns(home, CLONE_NEWNET), "setns home");
	show(&here, "below a net device removed elsewhere, where it was");
	show(&there, "below a net device removed elsewhere, there");
	listen_stop(&here);
	listen_stop(&there);
}

static void listen_net(struct listener *l, const char *sys, int events)
{
	char path[64];

	listen_start_for(l, events, events);
	snprintf(path, sizeof(path), "%s/class/net", sys);
	listen_both(l, path, "class");
	snprintf(path, sizeof(path), "%s/devices/virtual/net", sys);
	listen_both(l, path, "devices");
}

// Two sysfs super blocks, one for each network namespace: each must hear of its own devices only.
static void sysfs_net(void)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), away;
	struct listener here, there, above;

	must(unshare(CLONE_NEWNET), "unshare net");
	away = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	must(mkdir("/tmp/sys", 0755), "mkdir sys");
	must(mount("none", "/tmp/sys", "sysfs", 0, NULL), "mount sysfs");
	must(setns(home, CLONE_NEWNET), "setns home");

	listen_net(&here, "/sys", 4);
	listen_net(&there, "/tmp/sys", 4);
	listen_start(&above);
	listen_both(&above, "/sys/devices/virtual", "virtual");
	net_rename("dummy0", "other0");
	show(&here, "net device renamed, here");
	show(&there, "net device renamed, other namespace");
	show(&above, "net device renamed, above");
	listen_stop(&here);
	listen_stop(&there);
	listen_stop(&above);

	listen_net(&here, "/sys", 2);
	listen_net(&there, "/tmp/sys", 2);
	net_move("other0", away);
	show(&here, "net device moved away, here");
	show(&there, "net device moved away, other namespace");
	listen_stop(&here);
	listen_stop(&there);
	sysfs_net_below(home, away);
	must(umount("/tmp/sys"), "umount sysfs");
}

int main(void)
{
	must(mkdir(V1, 0755), "mkdir v1");
	must(mount("none", V1, "cgroup", 0, "none,name=lowerwatch"), "mount cgroup v1");
	cgroup_controllers();
	cgroup_once();
	cgroup_user();
	cgroup_pressure();
	cgroup_v1_rename();
	cgroup_mounts();
	cgroup_elsewhere();
	cgroup_memory();
	sysfs_loop();
	sysfs_net();
	cgroup_namespace();
	return 0;
}
