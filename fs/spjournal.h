/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_SPJOURNAL_H
#define LSVD_SPJOURNAL_H
#endif
