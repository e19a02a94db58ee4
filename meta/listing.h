/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_LISTING_H
#define LSVD_LISTING_H
#endif
