/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's wire: the numbers of a classic migration stream.
 *
 *	stream  := magic version [configuration] element* EOF [description]
 *	element := START | PART | END | FULL | COMMAND
 *
 * All integers are big-endian; str8 is one byte of length and that many bytes.
 * The numbers are facts of QEMU's source, named beside them; where no version
 * stands they are the same in 6.0 and in 11.1.
 */
#pragma once

/* migration/savevm.h: QEMU_VM_FILE_MAGIC ("QEVM") and QEMU_VM_FILE_VERSION. */
#define WIRE_MAGIC 0x5145564du
#define WIRE_VERSION 3u
#define WIRE_VERSION_OBSOLETE 2u /* QEMU_VM_FILE_VERSION_COMPAT: refused */

/* migration/savevm.h: QEMU_VM_*, the first byte of an element. */
#define WIRE_EOF 0x00
#define WIRE_SECTION_START                                                     \
	0x01			/* be32 id, str8 idstr, be32 instance,         \
				 * be32 version, payload, footer */
#define WIRE_SECTION_PART 0x02	/* be32 id, payload, footer */
#define WIRE_SECTION_END 0x03	/* be32 id, payload, footer */
#define WIRE_SECTION_FULL 0x04	/* as START: the state of a device */
#define WIRE_SUBSECTION 0x05	/* str8 name, be32 version, fields */
#define WIRE_DESCRIPTION 0x06	/* after EOF: be32 length, JSON */
#define WIRE_CONFIGURATION 0x07 /* be32 length, machine, subsections */
#define WIRE_COMMAND 0x08	/* be16 command, be16 length, bytes */
#define WIRE_FOOTER 0x7e	/* be32 id; since machine types 2.4 */

/* migration/savevm.c: enum qemu_vm_cmd. */
#define WIRE_CMD_PACKAGED 7u	/* be32 n, then n bytes outside `length` */
#define WIRE_CMD_SWITCHOVER 11u /* since 10.0; before RAM's END */

/* migration/savevm.c: vmstate_configuration and its subsections. */
#define WIRE_CONFIG_PAGE_BITS "configuration/target-page-bits"
#define WIRE_CONFIG_CAPS "configuration/capabilities"
#define WIRE_CONFIG_UUID "configuration/uuid"
#define WIRE_CONFIG_VERSION 1u /* version_id of each of the three */
#define WIRE_UUID_SIZE 16u
#define WIRE_CAP_IGNORE_SHARED "x-ignore-shared"
#define WIRE_CAP_MAPPED_RAM "mapped-ram" /* since 9.0 */

/* migration/ram.c: MappedRamHeader, after each block of the list where
 * mapped-ram is on: be32 version, be64 target page, be64 offset of the bitmap,
 * be64 offset of the pages, both in the file; 0 and 0 for a block that
 * is left out (migrate_ram_is_ignored(), since 11.0). The stream goes on after the
 * pages. */
#define WIRE_MAPPED_HEADER 28u
#define WIRE_MAPPED_VERSION 1u
#define WIRE_MAPPED_ALIGN 0x100000u /* MAPPED_RAM_FILE_OFFSET_ALIGNMENT */

/* The target page where configuration/target-page-bits is not sent: what x86,
 * ppc, s390x, riscv and loongarch have (target/.../cpu-param.h:
 * TARGET_PAGE_BITS). Arm's is from 10 to 16 bits; virt and sbsa-ref send it,
 * older boards have 10. Sparc64, alpha and openrisc have 13. */
#define WIRE_PAGE_BITS_DEFAULT 12u
#define WIRE_PAGE_BITS_MAX 16u
#define WIRE_PAGE_BITS_OTHER 13u
#define WIRE_PAGE_BITS_MACHINES                                                \
	{                                                                      \
		"sun4u", "sun4v", "niagara", "clipper", "or1k-sim"             \
	}

/* hw/virtio/virtio-mem.c: vmstate_virtio_mem_device_early, a FULL before or
 * after RAM's START, whose name follows the device's path: be64 address, be64
 * size of the region, be64 size of a block, be32 node, be64 size; then a bit
 * for each block of the region, in be64 words. Since machine types 8.0. */
#define WIRE_VIRTIO_MEM "virtio-mem-device-early"
#define WIRE_VIRTIO_MEM_VERSION 1u
#define WIRE_VIRTIO_MEM_FIELDS 36u

/* migration/ram.c: ram_mig_init() registers "ram" with version 4;
 * RAM_SAVE_FLAG_* are the low bits of each be64 of its payload. */
#define WIRE_RAM "ram"
#define WIRE_RAM_VERSION 4u
#define WIRE_RAM_FULL 0x001u	      /* unused since 2009 */
#define WIRE_RAM_ZERO 0x002u	      /* [str8 block], a byte: 0 */
#define WIRE_RAM_MEM_SIZE 0x004u      /* the list of blocks, in START alone */
#define WIRE_RAM_PAGE 0x008u	      /* [str8 block], one target page */
#define WIRE_RAM_EOS 0x010u	      /* end of this section's payload */
#define WIRE_RAM_CONTINUE 0x020u      /* the block of the record before */
#define WIRE_RAM_XBZRLE 0x040u	      /* a delta to the page sent before */
#define WIRE_RAM_HOOK 0x080u	      /* migration/rdma.h */
#define WIRE_RAM_COMPRESS_PAGE 0x100u /* capability compress; until 9.0 */
#define WIRE_RAM_MULTIFD_FLUSH 0x200u /* since 8.1 */

/* migration/block-dirty-bitmap.c: section "dirty-bitmap", version 1. Chunks:
 * flags of 1, 2 or 4 bytes (the top bit of a byte extends them), [str8 node],
 * [str8 bitmap]; START: be32 granularity and a byte (the comment there says
 * be64, the code does not); BITS: be64 sector, be32 sectors, and unless ZEROES
 * be64 size and bytes. */
#define WIRE_DIRTY "dirty-bitmap"
#define WIRE_DIRTY_VERSION 1u
#define WIRE_DIRTY_EOS 0x01u
#define WIRE_DIRTY_ZEROES 0x02u
#define WIRE_DIRTY_BITMAP_NAME 0x04u
#define WIRE_DIRTY_NODE_NAME 0x08u
#define WIRE_DIRTY_START 0x10u
#define WIRE_DIRTY_COMPLETE 0x20u
#define WIRE_DIRTY_BITS 0x40u
#define WIRE_DIRTY_EXTRA_FLAGS 0x80u
#define WIRE_DIRTY_BITS_MAX 10240u /* 10 CHUNK_SIZE; QEMU refuses more */

/* hw/ppc/spapr.c: section "spapr/htab", version 1. be32: not 0, the payload
 * ends there; 0, then be32 index, be16 valid, be16 invalid, valid times 16
 * bytes, until all three are 0. */
#define WIRE_HTAB "spapr/htab"
#define WIRE_HTAB_VERSION 1u
#define WIRE_HTAB_ENTRY 16u

/* hw/s390x/s390-stattrib.c: section TYPE_S390_STATTRIB, version 0. be64 of
 * address and flag; MORE: be64 count and bytes. */
#define WIRE_STATTRIB "s390-storage_attributes"
#define WIRE_STATTRIB_VERSION 0u
#define WIRE_STATTRIB_MASK 0xfffu /* TARGET_PAGE_MASK of s390x */
#define WIRE_STATTRIB_EOS 0x01u
#define WIRE_STATTRIB_MORE 0x02u
#define WIRE_STATTRIB_ERROR 0x04u
#define WIRE_STATTRIB_DONE 0x08u
