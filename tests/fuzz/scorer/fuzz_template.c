/* fuzz_template - any text as a template file: parsed or refused with a reason, and what is parsed points
 * into the template's own memory. */
#include "scorer/template.h"

#include "base/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = 0;
	struct template *parsed = NULL;
	struct error error = {0};
	enum status status = template_parse("fuzz", text, &parsed, &error);
	if ((status == STATUS_OK) != (parsed != NULL) || (status && !error.text[0]))
		abort();
	if (parsed) {
		size_t length = strlen(text), total = 0;
		for (int s = 0; s < SECTIONS; s++)
			for (uint32_t i = 0; i < parsed->sections[s].count; i++) {
				struct text_view literal = parsed->sections[s].parts[i].literal;
				if (literal.bytes < parsed->unescaped ||
				    literal.bytes + literal.size > parsed->unescaped + length)
					abort();
				total += literal.size;
			}
		if (total > length)
			abort();
	}
	template_destroy(parsed);
	free(text);
	return 0;
}
