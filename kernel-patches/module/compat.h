/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the overlayfs series has from outside fs/overlayfs, for a module that is
 * built against a kernel that lacks it.  Included before every file.
 */
#ifndef _OVL_MODULE_COMPAT_H
#define _OVL_MODULE_COMPAT_H

#include <linux/cleanup.h>
#include <linux/fs.h>

/*
 * No filesystem of such a kernel sets the flag, whatever its bit is used for
 * there.  Layers with d_revalidate are then verified at each use.
 */
#ifndef SB_I_NOTIFY_ALL
#define SB_I_NOTIFY_ALL 0
#endif

/*
 * Came to 6.12 between 6.12.95 and 6.12.107.  As scoped_guard() of the same
 * header, the loop has no other end than the label, so that the compiler knows
 * that what follows a body that returns is never reached.
 */
#ifndef scoped_class
#define __ovl_scoped_class(_name, _var, _out, args...)		\
	for (CLASS(_name, _var)(args); ; ({ goto _out; }))	\
		if (0) {					\
_out:								\
			break;					\
		} else
#define scoped_class(_name, _var, args...)			\
	__ovl_scoped_class(_name, _var, __UNIQUE_ID(out), args)
#endif

#endif /* _OVL_MODULE_COMPAT_H */
