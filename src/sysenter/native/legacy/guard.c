/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this the kernel that the module was built for?
 *
 * This code uses nothing whose place a header decides, such as current or the number of
 * this CPU. Until the guard has accepted it, the running kernel may not be the one that
 * the headers are of.
 */
#include <linux/config.h>
#include <linux/version.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/net.h>
#include <linux/string.h>
#include <linux/utsname.h>
#include <linux/interrupt.h>
#include "legacy.h"
#include "module.h"
#include "addresses.h"

/* The kernel's handler of vector 0x80 must call through sys_call_table within its first
   instructions: call *table(,%eax,4). */
static int calls_through(unsigned long handler, unsigned long table)
{
	const unsigned char *p = (const unsigned char *)handler;
	int i;

	for (i = 0; i < 128; i++)
		if (p[i] == 0xff && p[i + 1] == 0x14 && p[i + 2] == 0x85
		    && *(const unsigned long *)(p + i + 3) == table)
			return 1;
	return 0;
}

int sysenter_check_kernel(void)
{
	if (strcmp(system_utsname.release, UTS_RELEASE) != 0)
		REFUSE("built for %s, this is %s\n", UTS_RELEASE,
		       system_utsname.release);
	if ((unsigned long)sock_register != ADDRESS_sock_register)
		REFUSE("built for a kernel with sock_register at 0x%08lx, here "
		       "it is at 0x%08lx: build with this kernel's System.map\n",
		       (unsigned long)ADDRESS_sock_register,
		       (unsigned long)sock_register);
#if LINUX_2_2
	if ((unsigned long)&bh_mask != ADDRESS_bh_mask
	    || (unsigned long)&bh_active != ADDRESS_bh_active)
		REFUSE("System.map and the kernel differ in bh_mask or bh_active\n");
#endif
	sysenter_find_idt();
	if (sysenter_gate_target(0x80) != ADDRESS_system_call)
		REFUSE("int 0x80 goes to 0x%08lx, System.map's system_call is "
		       "0x%08lx: another module has taken it, or the map is of "
		       "another kernel\n", sysenter_gate_target(0x80),
		       (unsigned long)ADDRESS_system_call);
	if (!sysenter_gate_has_target(1) || !sysenter_gate_has_target(2))
		REFUSE("vectors 1 and 2 are not this kernel's own: unload the "
		       "module that has taken them\n");
	if (!calls_through(ADDRESS_system_call, ADDRESS_sys_call_table))
		REFUSE("system_call does not call through the sys_call_table "
		       "of System.map\n");
	if (ADDRESS_ret_from_sys_call <= ADDRESS_system_call
	    || ADDRESS_ret_from_sys_call > ADDRESS_system_call + 256)
		REFUSE("ret_from_sys_call of System.map is not behind "
		       "system_call\n");
	return 0;
}
