/* SPDX-License-Identifier: GPL-3.0-or-later */
/* clock-private.h - what lock.c must know about a replaced clock. */
#ifndef LSVD_CLOCK_PRIVATE_H
#define LSVD_CLOCK_PRIVATE_H

#include "base.h"

bool clock_is_replaced(void);

#endif
