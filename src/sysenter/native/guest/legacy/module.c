/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * insmod and rmmod for Linux 2.2 and 2.4. On these kernels user space lays out, links and
 * relocates a module: query_module gives the kernel's symbols, create_module gives an
 * address, init_module takes the image.
 */
#include "sys.h"

struct elf_header {
	unsigned char ident[16];
	unsigned short type, machine;
	u32 version, entry, phoff, shoff, flags;
	unsigned short ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct section { u32 name, type, flags, addr, offset, size, link, info, align,
		 entsize; };
struct symbol { u32 name, value, size; unsigned char info, other;
		unsigned short index; };
struct relocation { u32 offset, info; };

enum { SHT_PROGBITS = 1, SHT_NOBITS = 8, SHT_REL = 9, SHT_SYMTAB = 2 };
enum { SHF_ALLOC = 2, SHN_ABS = 0xfff1, SHN_COMMON = 0xfff2 };
enum { R_386_32 = 1, R_386_PC32 = 2, R_386_PLT32 = 4 };

/* The part of struct module that both kernels have, and room for the members that only the
   newer one has behind it. */
struct module_head {
	u32 size_of_struct, next, name, size, usecount, flags, nsyms, ndeps,
	    syms, deps, refs, init, cleanup, ex_start, ex_end, persist_start,
	    persist_end, can_unload, more[6];
};

enum { QM_SYMBOLS = 4 };
struct kernel_symbol { u32 value, name; };

#define FILE_MAX (256 * 1024)
#define SYMBOLS_MAX (512 * 1024)
#define PARAMETERS_MAX 256
static char file[FILE_MAX] __attribute__((aligned(16)));
static char symbols[SYMBOLS_MAX] __attribute__((aligned(16)));
static char image[FILE_MAX] __attribute__((aligned(16)));
static u32 kernel_symbols;

#define HEADER ((struct elf_header *)file)
#define SECTION(i) ((struct section *)(file + HEADER->shoff \
				       + (i) * HEADER->shentsize))

static int read_file(const char *path)
{
	long fd = int80(NR_open, (long)path, 0, 0), n, size = 0;

	if (fd < 0)
		return fd;
	while ((n = int80(NR_read, fd, (long)file + size, FILE_MAX - size)) > 0)
		size += n;
	int80(NR_close, fd, 0, 0);
	return size == FILE_MAX ? -EFBIG : size;
}

static const char *section_name(int i)
{
	return file + SECTION(HEADER->shstrndx)->offset + SECTION(i)->name;
}

static int find_section(const char *name)
{
	int i;

	for (i = 1; i < HEADER->shnum; i++)
		if (streq(section_name(i), name))
			return i;
	return 0;
}

/* The name of an exported symbol may end in a checksum (CONFIG_MODVERSIONS). Then the
   reference has one too, and the two must be equal. */
static int kernel_symbol(const char *name, u32 *value)
{
	struct kernel_symbol *s = (struct kernel_symbol *)symbols;
	u32 i;

	for (i = 0; i < kernel_symbols; i++)
		if (streq(symbols + s[i].name, name)) {
			*value = s[i].value;
			return 1;
		}
	return 0;
}

/* Put NAME=VALUE from the command line into `char *NAME` of the module, if .modinfo says
   that it is a string. */
static int set_parameter(const char *given, struct symbol *table, int n,
			 const char *names, u32 base, u32 *end, u32 limit)
{
	char name[32];
	u32 len = 0, at;
	int i;

	while (given[len] && given[len] != '=' && len < sizeof(name) - 1)
		name[len] = given[len], len++;
	name[len] = 0;
	if (given[len] != '=')
		return -EINVAL;
	for (i = 0; i < n; i++)
		if (streq(names + table[i].name, name) && table[i].index
		    && table[i].index < SHN_ABS) {
			at = SECTION(table[i].index)->addr + table[i].value;
			if (*end + length(given) > limit)
				return -E2BIG;
			memcpy(image + *end, given + len + 1,
			       length(given + len + 1) + 1);
			*(u32 *)(image + at) = base + *end;
			*end += length(given + len + 1) + 1;
			return 0;
		}
	say("{\"event\": \"load\", \"error\": \"no parameter %s\"}", name);
	return -EINVAL;
}

/* load FILE NAME [PARAMETER=VALUE...] */
int load(int argc, char **argv)
{
	struct module_head *head = (struct module_head *)image;
	struct symbol *table = 0;
	const char *names = 0;
	u32 size, end, base, got;
	long r;
	int i, j, n = 0, ex;

	if (argc < 3)
		return -EINVAL;
	r = read_file(argv[1]);
	if (r < (long)sizeof(struct elf_header))
		return r < 0 ? r : -EINVAL;
	r = int80_5(NR_query_module, 0, QM_SYMBOLS, (long)symbols, SYMBOLS_MAX,
		    (long)&got);
	if (r < 0)
		return r;
	kernel_symbols = got;

	/* The layout: head, name, sections, room for parameters. */
	memset(image, 0, sizeof(image));
	size = sizeof(*head);
	memcpy(image + size, argv[2], length(argv[2]) + 1);
	head->name = size;
	size += length(argv[2]) + 1;
	for (i = 1; i < HEADER->shnum; i++) {
		struct section *s = SECTION(i);

		if (s->type == SHT_SYMTAB) {
			table = (struct symbol *)(file + s->offset);
			n = s->size / sizeof(*table);
			names = file + SECTION(s->link)->offset;
		}
		if (!(s->flags & SHF_ALLOC))
			continue;
		if (s->align > 1)
			size = (size + s->align - 1) & -s->align;
		s->addr = size;
		if (size + s->size > FILE_MAX)
			return -EFBIG;
		if (s->type != SHT_NOBITS)
			memcpy(image + size, file + s->offset, s->size);
		size += s->size;
	}
	for (i = 0; i < n; i++)
		if (table[i].index == SHN_COMMON) {
			size = (size + 31) & -32;
			got = table[i].size;
			table[i].value = size;	/* from the image's start */
			size += got;
		}
	end = size;
	size += PARAMETERS_MAX;
	if (size > FILE_MAX)
		return -EFBIG;

	r = int80(NR_create_module, (long)argv[2], size, 0);
	if (r < 0 && r > -4096)
		return r;
	base = r;
	for (i = 3; i < argc; i++)
		if ((r = set_parameter(argv[i], table, n, names, base, &end,
				       size)))
			goto fail;

	/* From here on the values of symbols are addresses. */
	for (i = 1; i < n; i++) {
		struct symbol *s = &table[i];
		const char *name = names + s->name;

		if (s->index == SHN_COMMON)
			s->value += base;
		else if (s->index == 0) {
			if (streq(name, "__this_module"))
				s->value = base;
			else if (*name && !kernel_symbol(name, &s->value)) {
				say("{\"event\": \"load\", \"error\": "
				    "\"unresolved %s\"}", name);
				r = -ENOENT;
				goto fail;
			}
		} else if (s->index < SHN_ABS)
			s->value += SECTION(s->index)->addr + base;
		if (streq(name, "init_module"))
			head->init = s->value;
		if (streq(name, "cleanup_module"))
			head->cleanup = s->value;
	}
	for (i = 1; i < HEADER->shnum; i++) {
		struct section *s = SECTION(i), *to = SECTION(s->info);
		struct relocation *rel = (struct relocation *)(file + s->offset);

		if (s->type != SHT_REL || !(to->flags & SHF_ALLOC))
			continue;
		for (j = 0; j < (int)(s->size / sizeof(*rel)); j++) {
			u32 at = to->addr + rel[j].offset;
			u32 *place = (u32 *)(image + at);
			u32 value = table[rel[j].info >> 8].value;

			switch (rel[j].info & 0xff) {
			case R_386_32:
				*place += value;
				break;
			case R_386_PC32:
			case R_386_PLT32:
				*place += value - (base + at);
				break;
			default:
				r = -EINVAL;
				goto fail;
			}
		}
	}
	head->size_of_struct = sizeof(*head);
	head->size = size;
	head->name += base;
	ex = find_section("__ex_table");
	if (ex) {
		head->ex_start = base + SECTION(ex)->addr;
		head->ex_end = head->ex_start + SECTION(ex)->size;
	}
	r = int80(NR_init_module, (long)argv[2], (long)image, 0);
	if (r == 0)
		return 0;
fail:
	int80(NR_delete_module, (long)argv[2], 0, 0);
	return r;
}

/* unload NAME */
int unload(int argc, char **argv)
{
	return argc == 2 ? int80(NR_delete_module, (long)argv[1], 0, 0) : -EINVAL;
}
