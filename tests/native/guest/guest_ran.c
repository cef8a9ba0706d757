// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *	guest_ran FILE
 *
 * A call whose body says that a guest of KVM's has run on this CPU (tests/native/rival). Before the
 * program goes on, the kernel's exit has to issue VMSCAPE's barrier, and then takes that back. The
 * next call says whether it has. With nothing in between, as a rule: any interrupt does the same.
 */
#include "hazards.h"

int main(int argc, char **argv)
{
	static char notes[SAID_SIZE];
	int file = argc == 2 ? open(argv[1], O_RDWR) : -1, held = 0, wrong = 0;

	said = notes;
	alone = getenv("SYSENTER_PATH") && !strcmp(getenv("SYSENTER_PATH"), "stock");	/* scope=all, or no module */
	if (!alone)
		stub_page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, open("/dev/sysenter", O_RDONLY), 0);
	if (file < 0 || stub_page == MAP_FAILED)
		return 2;
	take_path(alone ? 0 : MARK);
	for (int i = 0; i < 200; i++) {
		char byte = '?';

		wrong += call(SYS_write, file, "1", 1) != 1;
		wrong += call(SYS_pread64, file, &byte, 1, 0) != 1;
		held += byte == '1';
		wrong += byte != '0' && byte != '1';
	}
	printf("{\"held\": %d, \"wrong\": %d}\n", held, wrong);
	return 0;
}
