// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guard refuses any kernel but the one that the module was built for. Andy Polyakov's
 * module of 2001 compared UTS_RELEASE and the address of sock_register(). This one compares
 * both, and also uname's version line and the build id of the link.
 *
 * `sysenter build` reads these values from the kernel image and writes them to target.h.
 */
#include "sysenter.h"
#include <linux/elf.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/net.h>
#include <linux/utsname.h>
#include "target.h"
#if __has_include("version.h")	/* a build by DKMS */
#include "version.h"
MODULE_INFO(dkms_version, SYSENTER_VERSION);
#endif
/* /etc/kernel/postinst.d/00-sysenter and `sysenter status` compare this with the image. */
MODULE_INFO(target, TARGET_RELEASE " " TARGET_VERSION);

#define NOTE_GNU_BUILD_ID	3	/* NT_GNU_BUILD_ID in glibc's elf.h */

static bool same(const char *what, const char *built_for, const char *here)
{
	if (!strcmp(built_for, here))
		return true;
	pr_err("refused: built for %s %s, this kernel's is %s; build it for this kernel\n",
	       what, built_for, here);
	return false;
}

/*
 * KASLR moves the whole kernel, so compare a distance that it does not change: from _stext
 * to sock_register(). It differs from link to link.
 */
static bool same_link(void)
{
	unsigned long here = sysenter_lookup("_stext");
	unsigned long distance = (unsigned long)sock_register - here;

	if (here && distance == TARGET_SOCK_REGISTER - TARGET_STEXT)
		return true;
	pr_err("refused: built for a kernel with sock_register at _stext+0x%lx, here it is at +0x%lx; build it for this kernel\n",
	       (unsigned long)(TARGET_SOCK_REGISTER - TARGET_STEXT), distance);
	return false;
}

/* Read the GNU build id from the ELF notes in /sys/kernel/notes. */
static int read_build_id(char *hex, size_t size)
{
	struct file *file = filp_open("/sys/kernel/notes", O_RDONLY, 0);
	unsigned char *notes;
	ssize_t length, at = 0;
	loff_t pos = 0;
	int result = -ENOENT;

	if (IS_ERR(file))
		return PTR_ERR(file);
	notes = sysenter_fault() ? NULL : kzalloc(PAGE_SIZE, GFP_KERNEL);
	length = notes ? kernel_read(file, notes, PAGE_SIZE, &pos) : -ENOMEM;
	filp_close(file, NULL);
	while (at + (ssize_t)sizeof(Elf32_Nhdr) <= length) {
		Elf32_Nhdr *note = (void *)notes + at;
		size_t name = sizeof(*note), desc = name + ALIGN(note->n_namesz, 4);

		if (note->n_descsz > PAGE_SIZE || note->n_namesz > PAGE_SIZE ||
		    at + desc + note->n_descsz > length)
			break;
		if (note->n_type == NOTE_GNU_BUILD_ID && note->n_namesz == 4 &&
		    !memcmp((char *)note + name, "GNU", 4) && 2 * note->n_descsz < size) {
			snprintf(hex, size, "%*phN", (int)note->n_descsz, (char *)note + desc);
			result = 0;
			break;
		}
		at += desc + ALIGN(note->n_descsz, 4);
	}
	kfree(notes);
	return result;
}

static bool same_build_id(void)
{
	char here[65];

	if (!TARGET_BUILD_ID[0])
		return true;
	if (read_build_id(here, sizeof(here))) {
		pr_notice("build id not compared: /sys/kernel/notes cannot be read\n");
		return true;
	}
	return same("build id", TARGET_BUILD_ID, here);
}

int sysenter_guard(void)
{
	if (!same("release", TARGET_RELEASE, init_uts_ns.name.release) ||
	    !same("version", TARGET_VERSION, init_uts_ns.name.version) ||
	    !same_link() || !same_build_id())
		return -ENOEXEC;
	return 0;
}
