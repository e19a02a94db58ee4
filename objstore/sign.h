/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_SIGN_H
#define LSVD_SIGN_H
#endif
