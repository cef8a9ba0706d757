/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Find the next definition of a function after this library's own, in the dynamic loader's
 * order, and whether it is the C library's.
 *
 * This is dlsym(RTLD_NEXT, name) without dlsym(), which before glibc 2.34 is in libdl, and
 * most programs do not load libdl. dl_iterate_phdr() is in every C library since glibc 2.2.4,
 * in musl too, and stays within the caller's namespace (dlmopen).
 *
 * HAZARD: every reference to the C library is weak, because the symbol may not be there. If
 * this library is alone in a namespace, there is no C library at all.
 */
#ifndef SYSENTER_NEXT_H
#define SYSENTER_NEXT_H
#include <link.h>
#include <stddef.h>
#include <stdint.h>

#pragma weak dl_iterate_phdr
#pragma weak __errno_location

struct next {
	char name[16];
	void *address;		/* NULL if there is none */
	char libcs;		/* it is the C library's own */
};

struct elf_object {
	ElfW(Addr) base;
	const ElfW(Sym) *symbols;
	const char *strings;
	const ElfW(Half) *versions;	/* or NULL */
	const uint32_t *gnu_hash, *sysv_hash;
};

/* glibc has added the base to these addresses in place; musl and the vDSO have not. */
static const void *elf_pointer(const struct elf_object *object, ElfW(Addr) value)
{
	return (const void *)(value < object->base ? value + object->base : value);
}

static int elf_read_dynamic(struct elf_object *object, const ElfW(Dyn) *dynamic)
{
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		const void *pointer = elf_pointer(object, dynamic->d_un.d_ptr);

		switch (dynamic->d_tag) {
		case DT_SYMTAB:
			object->symbols = pointer;
			break;
		case DT_STRTAB:
			object->strings = pointer;
			break;
		case DT_VERSYM:
			object->versions = pointer;
			break;
		case DT_GNU_HASH:
			object->gnu_hash = pointer;
			break;
		case DT_HASH:
			object->sysv_hash = pointer;
			break;
		}
	}
	return object->symbols && object->strings && (object->gnu_hash || object->sysv_hash);
}

static int same_string(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* A function's address, if a reference from another object would get this symbol. */
static void *elf_function(const struct elf_object *object, uint32_t index, const char *name)
{
	const ElfW(Sym) *symbol = object->symbols + index;

	/* st_info has its type in the same low bits for 32 and for 64 bits */
	if (symbol->st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol->st_info) == STB_LOCAL ||
	    ELF64_ST_TYPE(symbol->st_info) != STT_FUNC)
		return NULL;
	if (object->versions && object->versions[index] & 0x8000)
		return NULL;	/* an old version, for old programs */
	if (!same_string(object->strings + symbol->st_name, name))
		return NULL;
	return (void *)(object->base + symbol->st_value);
}

static void *elf_gnu_lookup(const struct elf_object *object, const char *name)
{
	enum { BITS = 8 * sizeof(ElfW(Addr)) };
	uint32_t buckets = object->gnu_hash[0], first = object->gnu_hash[1], words = object->gnu_hash[2];
	uint32_t shift = object->gnu_hash[3], hash = 5381, index;
	const ElfW(Addr) *bloom = (const ElfW(Addr) *)(object->gnu_hash + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;
	ElfW(Addr) word;

	for (const char *c = name; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	if (!buckets || !words)
		return NULL;
	word = bloom[hash / BITS % words];
	if (!(word >> hash % BITS & word >> (hash >> shift) % BITS & 1))
		return NULL;
	index = bucket[hash % buckets];
	if (index < first)
		return NULL;
	do {
		if ((chain[index - first] | 1) == (hash | 1)) {
			void *address = elf_function(object, index, name);

			if (address)
				return address;
		}
	} while (!(chain[index++ - first] & 1));
	return NULL;
}

static void *elf_sysv_lookup(const struct elf_object *object, const char *name)
{
	uint32_t buckets = object->sysv_hash[0], hash = 0;
	const uint32_t *bucket = object->sysv_hash + 2, *chain = bucket + buckets;

	if (!buckets)
		return NULL;
	for (const char *c = name; *c; c++) {
		hash = (hash << 4) + (unsigned char)*c;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
	}
	for (uint32_t index = bucket[hash % buckets]; index; index = chain[index]) {
		void *address = elf_function(object, index, name);

		if (address)
			return address;
	}
	return NULL;
}

static void *elf_lookup(const struct elf_object *object, const char *name)
{
	return object->gnu_hash ? elf_gnu_lookup(object, name) : elf_sysv_lookup(object, name);
}

struct next_search {
	struct next *wanted;
	int count, past_this;
};

static int next_in_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct next_search *search = data;
	struct elf_object object = { .base = info->dlpi_addr };
	const ElfW(Dyn) *dynamic = NULL;
	ElfW(Addr) here = (ElfW(Addr))next_in_object;
	int missing = 0, libcs;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = info->dlpi_phdr + i;

		if (segment->p_type == PT_LOAD && here - object.base - segment->p_vaddr < segment->p_memsz) {
			search->past_this = 1;
			return 0;
		}
		if (segment->p_type == PT_DYNAMIC)
			dynamic = (const ElfW(Dyn) *)(object.base + segment->p_vaddr);
	}
	if (!search->past_this || !dynamic || !elf_read_dynamic(&object, dynamic))
		return 0;
	/* libpthread of glibc before 2.34 has this symbol too, and read(), write() and others */
	libcs = elf_lookup(&object, "__errno_location") != NULL;
	for (int i = 0; i < search->count; i++) {
		struct next *next = search->wanted + i;

		if (!next->address) {
			next->address = elf_lookup(&object, next->name);
			next->libcs = libcs;
			missing += !next->address;
		}
	}
	return !missing;	/* not 0 ends the iteration */
}

/* Fill in the addresses that are NULL. Takes a lock of the dynamic loader. */
static void find_next(struct next *wanted, int count)
{
	struct next_search search = { .wanted = wanted, .count = count };

	if (dl_iterate_phdr)
		dl_iterate_phdr(next_in_object, &search);
}

#endif
