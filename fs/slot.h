/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_SLOT_H
#define LSVD_SLOT_H
#endif
