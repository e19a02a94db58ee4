/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_RANGES_H
#define LSVD_RANGES_H
#endif
