/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef LSVD_HTTP_H
#define LSVD_HTTP_H
#endif
