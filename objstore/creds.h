/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_CREDS_H
#define LSVD_CREDS_H
#endif
