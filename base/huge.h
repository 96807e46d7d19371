/* huge.h - huge pages for large memory, and back again after a fork has cost them.
 *
 * A fork copies the page table: a page of 2 MiB costs it as much as one of 4 KiB. So mem.c asks for huge pages
 * wherever the allocator gets its memory from. But what is written while a child lives is copied by pieces of
 * 4 KiB, and the huge page is one no more; the next fork would pay for 512 small ones. Gathering makes huge
 * pages of them again (MADV_COLLAPSE, Linux 6.1; elsewhere nothing happens), some at a time, since each is a copy
 * of 2 MiB. Where transparent huge pages are switched off for the system, nothing is asked for. One thread. */
#ifndef EXITPOLL_BASE_HUGE_H
#define EXITPOLL_BASE_HUGE_H

#include <stdbool.h>
#include <stdint.h>

struct huge_gather;

/* Over the process's memory as it is now, in mappings of at least HUGE_MAPPING_MIN bytes. NULL: not possible. */
enum { HUGE_PAGE_BYTES = 2 << 20, HUGE_MAPPING_MIN = 4 << 20 };
struct huge_gather *huge_gather_begin(void);
/* At most so many pages; false: it is over, *gather is gone and NULL (then and before: does nothing). */
bool huge_gather_some(struct huge_gather **gather, uint32_t pages);
void huge_gather_destroy(struct huge_gather *gather);   /* NULL ok */

#endif
