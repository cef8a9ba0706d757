# SPDX-License-Identifier: GPL-2.0-or-later
# sysenter.c: a faster way into the kernel for Linux 2.2 and 2.4 on i386, as a module.
#
#	sh sysenter.c		builds and loads it on the running kernel, installs a
#				library for LD_PRELOAD, shows what dd gains by it
#	sh sysenter.c remove	undoes that
#	sh sysenter.c build OUT	only builds, for the kernel of HEADERS and SYSTEM_MAP
#	sh sysenter.c help	prints this
#
# HEADERS, SYSTEM_MAP, CC, LD, PREFIX (/usr/local), WAY, ENTRY, ROUNDS and COUNT may
# be set. It is one file for two readers: a shell takes its first line for a comment
# and runs the script, a compiler skips the script and finds the sources behind it.
#
# What it is. Programs enter these kernels by int 0x80, through an interrupt gate
# that costs more than many calls do themselves. SYSENTER, in Intel processors since
# the Pentium II, enters without a gate and saves nothing; SYSCALL, in those of AMD,
# is much the same. The kernels know neither. This module adds an entry for them, and
# the library has read, write and getppid take it. No source of the kernel is changed
# and int 0x80 works as before. It is for study: see what it does before you need it.
#
# Requirements. A processor with SYSENTER, or with SYSCALL under 2.4. Root. The
# configured headers of the running kernel (/usr/src/linux), its System.map, a C
# compiler of its time (gcc 2.95 for 2.2, up to 3.4 for 2.4), as, ld, insmod. The
# module carries the release and addresses of the kernel that it was built for, and
# refuses any other.
#
# The ways to find the stack of the caller in the kernel, which SYSENTER does not:
#
#	tss		2.4: the task state segment of this processor has it
#	syscall		2.4 by SYSCALL, ENTRY=syscall: a stub for each processor
#	cruel		2.2: the context switch is patched at run time to tell it
#	gentle		2.2, WAY=gentle: the task register leads to it, no patch
#	gentle-global	2.2, WAY=gentle-global: the way of the original, one processor
#
# SMP. All but gentle-global take any number of processors. Each is stopped for a
# moment while the module is loaded or unloaded.
#
# Limits. A program must be linked dynamically and not be set-uid, or LD_PRELOAD does
# nothing. One that runs over the library when the module is unloaded ends with
# SIGSEGV at its next call; a call that is asleep keeps the module. Unload it before a
# suspend by APM, which loses the registers. A traced call, fork and others that need
# more than a short way go by the entry of the kernel, with the result of int 0x80.
# A thread is not cancelled in a read or write of the library.
#
# Warranty. None, of any kind. It writes to the running kernel.
#
# Q. Are soft interrupts and bottom halves not forgotten?
# A. The way out asks what the exit of the kernel asks: bottom halves, reschedule,
#    signals. With any of them it leaves by the code of the kernel.
#
# Q. What about a stack pointer that leads nowhere, or into the kernel?
# A. It is compared with the end of user space, and both fetches have a fix-up:
#    SIGSEGV, or -EFAULT for a sixth argument.
#
# Q. And a caller in vm86 mode, or one that sets TF, NT or DF first?
# A. The first gets SIGSEGV; the flags of the others are kept for them and cleared for
#    the kernel. A debugger steps over a call as it did.
#
# Q. How does one see that it is used?
# A. /proc/sysenter counts calls. The comparison of the installer looks there too.
#
# Q. dd gains; what of my program?
# A. It gains what it spends on entering: much for tiny reads and writes, next to
#    nothing for large ones.
#
# The idea, and much of the way, is that of Andy Polyakov, who posted such a module to
# linux-kernel on 4 May 2001 and saw dd gain 20 % on a 550 MHz Pentium III. Manfred
# Spraul answered there that bottom halves have to be looked for at the exit.
