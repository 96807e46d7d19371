/* label.h - what counts as liked: a rule such as 'rating>=4', as kept in the metadata of a folder. Pure,
 * any thread. */
#ifndef EXITPOLL_PRODUCER_LABEL_H
#define EXITPOLL_PRODUCER_LABEL_H

#include "base/status.h"

#include <stdbool.h>

enum label_operator { LABEL_AT_LEAST, LABEL_ABOVE, LABEL_AT_MOST, LABEL_BELOW, LABEL_EQUALS };

struct label_rule {
	enum label_operator operator;
	double value;
};

/* "rating" OPERATOR NUMBER with >= > <= < = ==, spaces allowed. STATUS_USAGE says what is wrong. */
enum status label_rule_parse(const char *text, struct label_rule *rule, struct error *error);
bool label_rule_holds(const struct label_rule *rule, double rating);

#endif
