/* backend.c - what the backends share: rotary tables, the readout, the view of a checkpoint.
 * Callers: the backends at creation and at exits. */
#include "scorer/backend.h"

#include <math.h>

static enum status read_model(const void *context, enum model_tensor tensor, uint32_t layer,
			      uint32_t first_row, uint32_t count, float *out, struct error *error)
{
	return model_read(context, tensor, layer, first_row, count, out, error);
}

struct model_view model_view_of(const struct model *model)
{
	return (struct model_view){*model_get_config(model), read_model, model};
}

/* Llama 3 stretches only long wavelengths, with a ramp between the two bounds (Llama 3.1 reference). */
static double scaled_frequency(const struct model_config *config, double frequency)
{
	if (config->rope_scaling == ROPE_SCALING_LINEAR)
		return frequency / config->rope_factor;
	if (config->rope_scaling != ROPE_SCALING_LLAMA3)
		return frequency;
	double wavelength = 2 * 3.14159265358979323846 / frequency;
	double original = config->rope_original_positions;
	if (wavelength < original / config->rope_high_freq_factor)
		return frequency;
	if (wavelength > original / config->rope_low_freq_factor)
		return frequency / config->rope_factor;
	double ramp = (original / wavelength - config->rope_low_freq_factor) /
		      ((double)config->rope_high_freq_factor - config->rope_low_freq_factor);
	return (1 - ramp) * frequency / config->rope_factor + ramp * frequency;
}

void rope_tables(const struct model_config *config, uint32_t positions, float *cosines, float *sines)
{
	uint32_t half = config->head_size / 2;
	for (uint32_t i = 0; i < half; i++) {
		double frequency = pow(config->rope_theta, -2.0 * i / config->head_size);
		/* The originals round the frequency to float32 before they multiply by the position. */
		frequency = (float)scaled_frequency(config, frequency);
		for (uint32_t position = 0; position < positions; position++) {
			double angle = (float)(position * frequency);
			cosines[(size_t)position * half + i] = (float)cos(angle);
			sines[(size_t)position * half + i] = (float)sin(angle);
		}
	}
}

void readout_row(const struct readout *readout, uint32_t width, float epsilon, const float *x, float *z)
{
	double squares = 0;
	for (uint32_t i = 0; i < width; i++)
		squares += (double)x[i] * x[i];
	double scale = 1 / sqrt(squares / width + epsilon);
	for (uint32_t v = 0; v < readout->count; v++) {
		const float *vector = readout->vectors + (size_t)v * width;
		double sum = 0;
		for (uint32_t i = 0; i < width; i++)
			sum += (double)x[i] * scale * readout->norm[i] * vector[i];
		z[v] = (float)sum;
	}
}
