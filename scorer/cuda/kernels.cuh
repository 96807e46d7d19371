/* kernels.cuh - the launches of kernels.cu and attention.cu, and what they need of the device below. */
#ifndef EXITPOLL_SCORER_CUDA_KERNELS_CUH
#define EXITPOLL_SCORER_CUDA_KERNELS_CUH

#include "scorer/cuda/portable.cuh"

#ifdef __CUDACC__
cudaStream_t device_queue(struct device *device);
/* Remembers the first failure. */
void device_launched(struct device *device, const char *kernel);
#endif

void launch_embed(struct device *device, const struct embed_work *work);
void launch_norm(struct device *device, const struct norm_work *work);
void launch_rope(struct device *device, const struct rope_work *work);
void launch_attention(struct device *device, const struct attention_work *work);
void launch_swiglu(struct device *device, const struct swiglu_work *work);
void launch_gather(struct device *device, const struct gather_work *work);
void launch_arrange(struct device *device, const struct arrange_work *work);
void launch_head(struct device *device, const struct head_work *work);
void launch_decide(struct device *device, const struct decide_work *work);

#endif
