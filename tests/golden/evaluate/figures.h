/* figures.h - what scikit-learn says of the answers that figures.py describes. */
#ifndef EXITPOLL_TESTS_GOLDEN_EVALUATE_FIGURES_H
#define EXITPOLL_TESTS_GOLDEN_EVALUATE_FIGURES_H

/* Made by figures.py with scikit-learn 1.9.1: figures of 2511 answers. */
enum { GOLDEN_ROWS = 2511, GOLDEN_IMPRESSIONS_BOTH = 282 };
static const double golden[] = {
	0.6192253242117991,
	0.61534973236470714,
	0.6057756804365847,
	0.42553191489361702,
	0.85271870010545237,
	1.5268716976186663,
	0.26464157724068343,
	17.664277180406213,
};

#endif
