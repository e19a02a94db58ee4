/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_OPTIONS_H
#define LSVD_OPTIONS_H
#endif
