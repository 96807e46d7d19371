/* template_builtin.c - the templates that come with the program: one wording, four ways to wrap it in a
 * chat. Caller: template.c. */
#include "scorer/template.h"

#define INSTRUCTION                                                                                  \
	"You judge what customers will like. You are told how a customer and similar customers "     \
	"responded to items, and then one more item. Say whether the customer will like it. "        \
	"Answer with one word, Yes or No."

#define BODY                                                                                         \
	"[user]\n"                                                                                   \
	"{examples}{history}{user_statistics}\n"                                                     \
	"[user_statistics]\n"                                                                        \
	"So far the customer liked {user_mean} of 100 items on average, over {user_count} responses.\n" \
	"\n"                                                                                         \
	"[example_title]\n"                                                                          \
	"Similar customer {number}:\n"                                                               \
	"\n"                                                                                         \
	"[example_entry]\n"                                                                          \
	"- {title}: {action}\n"                                                                      \
	"\n"                                                                                         \
	"[history_title]\n"                                                                          \
	"The customer, oldest first:\n"                                                              \
	"\n"                                                                                         \
	"[history_entry]\n"                                                                          \
	"- {title}: {action}\n"                                                                      \
	"\n"                                                                                         \
	"[no_history]\n"                                                                             \
	"Nothing is known about the customer yet.\n"                                                 \
	"\n"                                                                                         \
	"[candidate]\n"                                                                              \
	"Item: {title}\n"                                                                            \
	"{item_statistics}Will the customer like this item?\n"                                       \
	"[item_statistics]\n"                                                                        \
	"Others liked it in {item_mean} of 100 cases on average, over {item_count} responses.\n"     \
	"\n"                                                                                         \
	"[unknown_title]\n"                                                                          \
	"an item without a name\n"

static const struct {
	const char *name, *text;
} shipped[] = {
	{"chatml",
	 "[instruction]\n"
	 "<|im_start|>system\n" INSTRUCTION "<|im_end|>\n"
	 "<|im_start|>user\n"
	 "\n"
	 BODY
	 "[answer]\n"
	 "<|im_end|>\n"
	 "<|im_start|>assistant\n"
	 "\n"
	 "[yes]\nYes\n[no]\nNo\n"},
	{"vicuna",
	 "[instruction]\n"
	 "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
	 "helpful, detailed, and polite answers to the user's questions. USER: " INSTRUCTION "\n"
	 "\n"
	 BODY
	 "[answer]\n"
	 " ASSISTANT:\n"
	 "[yes]\n Yes\n[no]\n No\n"},
	{"llama3",
	 "[instruction]\n"
	 "<|start_header_id|>system<|end_header_id|>\n"
	 "\n" INSTRUCTION "<|eot_id|><|start_header_id|>user<|end_header_id|>\n"
	 "\n"
	 "\n"
	 BODY
	 "[answer]\n"
	 "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
	 "\n"
	 "\n"
	 "[yes]\nYes\n[no]\nNo\n"},
	{"plain",
	 "[instruction]\n"
	 INSTRUCTION "\n"
	 "\n"
	 BODY
	 "[answer]\n"
	 "\n"
	 "Answer:\n"
	 "[yes]\n Yes\n[no]\n No\n"},
};

const char *template_builtin(const char *name)
{
	for (size_t i = 0; i < sizeof shipped / sizeof shipped[0]; i++)
		if (strcmp(shipped[i].name, name) == 0)
			return shipped[i].text;
	return NULL;
}

const char *template_builtin_name(size_t index)
{
	return index < sizeof shipped / sizeof shipped[0] ? shipped[index].name : NULL;
}
