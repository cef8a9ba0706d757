/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sys.h"
#include <stdarg.h>

void *memset(void *to, int c, u32 n)
{
	char *p = to;

	while (n--)
		*p++ = c;
	return to;
}

void *memcpy(void *to, const void *from, u32 n)
{
	char *p = to;
	const char *q = from;

	while (n--)
		*p++ = *q++;
	return to;
}

int streq(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int memory_same(const void *a, const void *b, u32 n)
{
	const char *p = a, *q = b;

	while (n && *p == *q)
		p++, q++, n--;
	return n == 0;
}

u32 length(const char *s)
{
	u32 n = 0;

	while (s[n])
		n++;
	return n;
}

/* Decimal, or hexadecimal behind 0x. */
long number(const char *s)
{
	long n = 0;
	int base = 10;

	if (s[0] == '0' && s[1] == 'x')
		base = 16, s += 2;
	for (; *s; s++)
		n = n * base + (*s <= '9' ? *s - '0' : (*s | 32) - 'a' + 10);
	return n;
}

u64 microseconds(void)
{
	struct { long sec, usec; } now;

	int80(NR_gettimeofday, (long)&now, 0, 0);
	return (u64)now.sec * 1000000 + now.usec;
}

static char *put_number(char *p, u64 n, u32 base)
{
	char digits[24];
	int i = 0;

	/* divide 64 by 32 bits by hand, because there is no libgcc here */
	do {
		u32 high = n >> 32, low = n, q_high = high / base, q_low, rest;

		__asm__("divl %4" : "=a" (q_low), "=d" (rest)
			: "0" (low), "1" (high % base), "r" (base));
		digits[i++] = "0123456789abcdef"[rest];
		n = (u64)q_high << 32 | q_low;
	} while (n);
	while (i)
		*p++ = digits[--i];
	return p;
}

/* %s, %d (long), %u (u64), %x (long). Writes the whole line at once. The line begins with a
   newline, because the kernel may have left half a line of its own. */
void say(const char *format, ...)
{
	char line[1024], *p = line;
	va_list args;

	va_start(args, format);
	*p++ = '\n';
	for (; *format && p < line + sizeof(line) - 64; format++) {
		if (*format != '%') {
			*p++ = *format;
			continue;
		}
		switch (*++format) {
		case 's': {
			const char *s = va_arg(args, const char *);

			while (*s && p < line + sizeof(line) - 64)
				*p++ = *s++;
			break;
		}
		case 'd': {
			long n = va_arg(args, long);

			if (n < 0)
				*p++ = '-', n = -n;
			p = put_number(p, (u32)n, 10);
			break;
		}
		case 'u':
			p = put_number(p, va_arg(args, u64), 10);
			break;
		case 'x':
			p = put_number(p, va_arg(args, u32), 16);
			break;
		}
	}
	*p++ = '\n';
	va_end(args);
	int80(NR_write, 1, (long)line, p - line);
}

int forked(void)
{
	return int80(NR_fork, 0, 0, 0);
}

int wait_for(int pid)
{
	int status = 0;
	long r;

	do
		r = int80_5(NR_wait4, pid, (long)&status, 0, 0, 0);
	while (r == -EINTR);
	return r < 0 ? (int)r : status;
}

void sleep_ms(int ms)
{
	long wait[2] = { ms / 1000, ms % 1000 * 1000000 };

	while (int80(NR_nanosleep, (long)wait, (long)wait, 0) == -EINTR)
		;
}

void on_signal(int sig, void (*handler)(int), int flags)
{
	struct { void (*handler)(int); u32 mask, flags, restorer; } action =
		{ handler, 0, flags, 0 };

	int80(NR_sigaction, sig, (long)&action, 0);
}
