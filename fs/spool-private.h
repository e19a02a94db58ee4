/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_SPOOL_PRIVATE_H
#define LSVD_SPOOL_PRIVATE_H
#endif
