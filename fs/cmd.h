/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_CMD_H
#define LSVD_CMD_H
#endif
