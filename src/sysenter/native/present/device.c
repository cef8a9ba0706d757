// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /dev/sysenter. A program maps its one page, readable and executable, and calls into it.
 * A mapping holds a reference to the module, so the module cannot go while a process
 * depends on it.
 */
#include "sysenter.h"
#include "compat.h"
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <asm/msr.h>

/* stub.S: the contents of the page */
extern const char sysenter_stub[], sysenter_stub_end[];
extern const char sysenter_stub_syscall[], sysenter_stub_syscall_end[];	/* i386 */

static struct page *stub_page;

static int sysenter_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != PAGE_SIZE)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
#ifdef CONFIG_X86_64
	/* the stub is 64-bit code; a 32-bit program has its vDSO */
	if (in_compat_syscall())
		return -ENXIO;
#else
	/* SYSENTER returns to the vDSO, so a process without one cannot use it */
	if (!current->mm->context.vdso)
		return -ENXIO;
#endif
	sysenter_seal(vma);
	return vm_insert_page(vma, vma->vm_start, stub_page);
}

static const struct file_operations sysenter_fops = {
	.owner	= THIS_MODULE,
	.mmap	= sysenter_mmap,
};

static struct miscdevice sysenter_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "sysenter",
	.fops	= &sysenter_fops,
	.mode	= 0444,
};

int sysenter_device_register(void)
{
	int error;

	stub_page = sysenter_fault() ? NULL : alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!stub_page)
		return -ENOMEM;
	if (sysenter_by_syscall)
		memcpy(page_address(stub_page), sysenter_stub_syscall,
		       sysenter_stub_syscall_end - sysenter_stub_syscall);
	else
		memcpy(page_address(stub_page), sysenter_stub, sysenter_stub_end - sysenter_stub);
	error = sysenter_fault() ?: misc_register(&sysenter_misc);
	if (error)
		__free_page(stub_page);
	return error;
}

void sysenter_device_unregister(void)
{
	misc_deregister(&sysenter_misc);
	__free_page(stub_page);
}
