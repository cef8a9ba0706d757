// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stands for KVM's module of this name, which cannot run on an emulated processor. Our module only
 * tests whether it is held, as each virtual machine holds it. Writing 1 to `machine' holds it,
 * 0 releases it.
 */
#include <linux/module.h>

static bool machine;

static int set_machine(const char *value, const struct kernel_param *param)
{
	bool was = machine;
	int error = param_set_bool(value, param);

	if (!error && machine && !was)
		__module_get(THIS_MODULE);
	if (!error && was && !machine)
		module_put(THIS_MODULE);
	return error;
}

static const struct kernel_param_ops machine_ops = { .set = set_machine, .get = param_get_bool };
module_param_cb(machine, &machine_ops, &machine, 0644);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A module of this name that can be held, for tests");
