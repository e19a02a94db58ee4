/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_ATTRDB_H
#define LSVD_ATTRDB_H
#endif
