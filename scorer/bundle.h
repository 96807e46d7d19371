/* bundle.h - everything that decides a score: model, adapter, template, answer words, exit policy.
 *
 * A bundle is a folder with exitpoll.json:
 *     {"name": "beauty-1", "model": "model.gguf", "adapter": "adapter", "template": "chatml",
 *      "answers": ["Yes", "No"], "context": 2048,
 *      "policy": {"rule": "discrepancy", "threshold": 0.01, "window": 3, "layers": [5, 10, 15]}}
 * All but "model" may be left out; paths are relative to the folder. Instead of "policy", "heads": FOLDER
 * names trained exit heads (exit_heads.h), whose policy it then is; "trained_until" (Unix ms) says up to when
 * data taught anything in the bundle. A bare model folder or GGUF file is a
 * bundle of that model alone. model_id is name@hash, the hash of all of this and of the model's content,
 * so two different bundles never share one. Immutable after opening; any thread. */
#ifndef EXITPOLL_SCORER_BUNDLE_H
#define EXITPOLL_SCORER_BUNDLE_H

#include "scorer/exit_heads.h"
#include "scorer/model.h"
#include "scorer/scorer.h"
#include "scorer/template.h"
#include "scorer/tokenizer.h"

/* Prompts are cut to the model's context or to this, whichever is less, unless "context" says more. */
enum { BUNDLE_CONTEXT_DEFAULT = 2048, BUNDLE_CONTEXT_MAX = 32768, BUNDLE_HASH_BYTES = 33 };

struct bundle {
	char name[96];
	char model_id[160];
	char content[BUNDLE_HASH_BYTES];        /* of the model with its adapter */
	struct model *model;
	struct tokenizer *tokenizer;
	struct template *wording;
	char *yes, *no;                 /* NULL: the template's */
	struct exit_heads *heads;       /* NULL: untrained exits read the answer words */
	struct exit_policy policy;
	int64_t trained_until_ms;       /* INT64_MIN: nothing in it is known to have been trained */
	uint32_t context;
};

/* Reads and checks; options override template and policy. STATUS_CONFIG names key and nearest key,
 * STATUS_NO_INPUT, CORRUPT, UNSUPPORTED as of the parts. */
enum status bundle_open(const struct scorer_options *options, struct bundle **out, struct error *error);
/* Do trained heads decide? Not under the rule none, which reads the model's own head. */
static inline bool bundle_is_trained(const struct bundle *bundle)
{
	return bundle->heads && bundle->policy.rule != EXIT_NONE;
}

/* What the prompt says besides values: template and answer words, as 32 hex digits. */
void bundle_wording_hash(const struct bundle *bundle, char out[BUNDLE_HASH_BYTES]);
void bundle_close(struct bundle *bundle);               /* NULL ok */

#endif
