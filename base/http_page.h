/* http_page.h - the status page. Private to base/http*.c; the server's thread. */
#ifndef EXITPOLL_BASE_HTTP_PAGE_H
#define EXITPOLL_BASE_HTTP_PAGE_H

#include "base/clock.h"
#include "base/http.h"

/* One HTML page, NUL-terminated, the caller's (mem_free); NULL: no memory. start_ms: wall clock. */
char *http_page(const struct http_options *options, const char *title, int64_t start_ms);

#endif
