/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_DIALECT_H
#define LSVD_DIALECT_H
#endif
