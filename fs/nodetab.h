/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_NODETAB_H
#define LSVD_NODETAB_H
#endif
