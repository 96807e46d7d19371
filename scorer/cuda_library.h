/* cuda_library.h - the GPU's library, found and loaded when it is first wanted, so that one program runs with
 * and without it. One thread. */
#ifndef EXITPOLL_SCORER_CUDA_LIBRARY_H
#define EXITPOLL_SCORER_CUDA_LIBRARY_H

#include "scorer/cuda/device.h"

/* Looks for libexitpoll-cuda.so at $EXITPOLL_CUDA_LIBRARY if that is set; else beside the program, in the cache
 * folder's cuda, then where the system looks. The table lives as long as the program. UNAVAILABLE: nowhere, or it
 * does not load (the text says why); INCOMPATIBLE: built from another version. */
enum status cuda_library_open(const struct device_table **out, struct error *error);

#endif
