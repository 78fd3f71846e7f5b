/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that fits in a boot sector and counts in RAM.
 *
 * In 32-bit protected mode it adds one to the first byte of every page from
 * COUNT_START to COUNT_END, for ever, and sends 'A' on the serial port when it
 * begins and 'B' after each pass. Stopped at any moment, the counting bytes of
 * all pages are therefore equal, but for one place where they drop by one
 * (modulo 256): the page at which the pass was interrupted. A page that was
 * lost, or that is older or newer than its neighbours, breaks that.
 *
 * Each page also holds its own address at offset 4, so that a page which ended
 * up in another page's place is noticed; and with COUNT_FILL set, the rest of
 * each page is filled once with pseudo-random words, so that it does not
 * compress to nothing.
 *
 * The pages from COUNT_END to COUNT_BLINK are zero and not zero in turns: each
 * pass writes a word into them, or takes it away.
 *
 * After the first pass it writes COUNT_VALUE to the I/O port COUNT_PORT, unless
 * that is 0: a byte, or a word if the value does not fit.
 *
 * The macros are given on gcc's command line.
 */
#ifndef COUNT_START
#define COUNT_START 0x100000
#endif
#ifndef COUNT_END
#define COUNT_END (100 * 0x100000)
#endif
#ifndef COUNT_BLINK
#define COUNT_BLINK COUNT_END
#endif
#ifndef COUNT_FILL
#define COUNT_FILL 0
#endif
/* Instructions to burn after each page: a guest that dirties more slowly. */
#ifndef COUNT_DELAY
#define COUNT_DELAY 0
#endif

#ifndef COUNT_PORT
#define COUNT_PORT 0
#endif

#define COM1 0x3f8

	.text
	.code16
	.globl _start
_start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	inb	$0x92, %al		/* the A20 gate */
	orb	$2, %al
	outb	%al, $0x92
	lgdtl	gdt_pointer
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$8, $protected

	.code32
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x7c00, %esp

	/* RAM may hold anything after a warm start: every count begins at 0. */
	movl	$0x9e3779b9, %ebx
	movl	$COUNT_START, %edi
prepare:
	movl	%edi, %edx
	xorl	%eax, %eax
	stosl
	movl	%edx, %eax
	stosl
#if COUNT_FILL
	movl	$((4096 - 8) / 4), %ecx
fill:
	movl	%ebx, %eax		/* xorshift32 */
	shll	$13, %eax
	xorl	%eax, %ebx
	movl	%ebx, %eax
	shrl	$17, %eax
	xorl	%eax, %ebx
	movl	%ebx, %eax
	shll	$5, %eax
	xorl	%eax, %ebx
	movl	%ebx, %eax
	stosl
	loop	fill
#else
	addl	$(4096 - 8), %edi
#endif
	cmpl	$COUNT_END, %edi
	jb	prepare

	movb	$'A', %al
	call	put
pass:
	movl	$COUNT_START, %edi
page:
	incb	(%edi)
#if COUNT_DELAY
	movl	$COUNT_DELAY, %ecx
burn:
	loop	burn
#endif
	addl	$4096, %edi
	cmpl	$COUNT_END, %edi
	jb	page
#if COUNT_BLINK > COUNT_END
blink:
	xorl	%edi, (%edi)
	addl	$4096, %edi
	cmpl	$COUNT_BLINK, %edi
	jb	blink
#endif
	movb	$'B', %al
	call	put
#if COUNT_PORT
	xorl	%edx, %edx
	xchgl	port, %edx
	testl	%edx, %edx
	jz	pass
	movl	$COUNT_VALUE, %eax
#if COUNT_VALUE > 0xff
	outw	%ax, %dx
#else
	outb	%al, %dx
#endif
#endif
	jmp	pass

put:
	movb	%al, %ah
	movw	$(COM1 + 5), %dx
busy:
	inb	%dx, %al
	testb	$0x20, %al
	jz	busy
	movw	$COM1, %dx
	movb	%ah, %al
	outb	%al, %dx
	ret

#if COUNT_PORT
	.balign 4
port:
	.long	COUNT_PORT
#endif

	.balign 8
gdt:
	.quad	0
	.quad	0x00cf9a000000ffff	/* code: flat, 4 GiB */
	.quad	0x00cf92000000ffff	/* data: flat, 4 GiB */
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
