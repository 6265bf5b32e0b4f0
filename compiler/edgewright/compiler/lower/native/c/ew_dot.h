/* Sums of int8 products, by instruction set; after ew_vector.h. */
#ifndef EW_DOT_H
#define EW_DOT_H
#include "ew_vector.h"
#endif
