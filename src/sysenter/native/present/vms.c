// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtual machines on this machine. Each VM exit loads SYSENTER_EIP from the VMCS (Intel SDM
 * Vol. 3, Loading Host Control Registers, Debug Registers, MSRs). KVM has written there the
 * MSR's value at the time when it created the virtual CPU. On AMD's processors VMLOAD does
 * the same. So the next exit of a VM that is older than our entry would remove the entry, and
 * the next exit of a younger VM would bring it back after an unload.
 */
#include "sysenter.h"
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

/* Is /dev/kvm open, or is there a VM? Either holds a reference to KVM's module. */
static bool is_held(const char *name)
{
	struct module *module;
	bool held;

	preempt_disable();
	rcu_read_lock();
	module = (struct module *)kernel_call(kernel_find_module, (unsigned long)name, 0, 0);
	held = module && module_refcount(module) > 0;
	rcu_read_unlock();
	preempt_enable();
	return held;
}

bool sysenter_vms_exist(void)
{
	return is_held("kvm_intel") || is_held("kvm_amd");
}

int __init sysenter_check_vms(void)
{
	if (IS_BUILTIN(CONFIG_KVM)) {
		pr_err("refused: KVM is part of this kernel, so that nothing tells whether there are virtual machines\n");
		return -EOPNOTSUPP;
	}
	if (!sysenter_vms_exist())
		return 0;
	pr_err("refused: a virtual machine of KVM's would take the entry away at its next exit; load before it begins\n");
	return -EBUSY;
}

void sysenter_wait_for_vms(void)
{
	unsigned int round;

	for (round = 0; sysenter_vms_exist(); round++) {
		if (round % 100 == 0)
			pr_notice("unload waits: a virtual machine of KVM's may bring the entry back at its next exit; end it first\n");
		msleep(100);
	}
}
