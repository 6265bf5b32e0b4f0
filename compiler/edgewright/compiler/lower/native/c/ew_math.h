/* Functions of one argument with bounded error, the same bits on every machine; after ew_vector.h. */
#ifndef EW_MATH_H
#define EW_MATH_H
#include "ew_vector.h"
#endif
