/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_CONTROL_H
#define LSVD_CONTROL_H
#endif
