/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_FSD_PRIVATE_H
#define LSVD_FSD_PRIVATE_H
#endif
