/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_PREFETCH_H
#define LSVD_PREFETCH_H
#endif
