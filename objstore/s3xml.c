/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3xml.c - S3's XML over libxml2's tree.
 *
 * What a server sends is hostile until read: a document type declaration is refused before libxml2 sees it (so there is
 * no entity to expand and nothing to load), depth is libxml2's own bound, size is S3XML_MAX. Elements are looked up by
 * local name, because servers differ in the namespace. An element with anything but one run of text in it is malformed
 * where text is wanted: better an error than half a key.
 *
 * Names come percent-encoded when the reply says <EncodingType>url</EncodingType>; '+' is a blank there (AWS, MinIO) and
 * a true plus is always %2B.
 */
#include "config.h"
#include "s3xml.h"
#include "store-private.h"
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DAMAGED '\x7f'

static pthread_once_t init_once = PTHREAD_ONCE_INIT;

/* Encodings are complained about behind XML_PARSE_NOERROR's back: no bytes of a server on our standard error. */
static void quiet(void *arg, const char *fmt, ...)
{
}

static void init_parser(void)
{
	xmlInitParser();
	xmlSetGenericErrorFunc(NULL, quiet);	   /* of this thread */
	(void)xmlThrDefSetGenericErrorFunc(NULL, quiet); /* of those that come */
}

/* --- tree helpers ------------------------------------------------------------------------------------------------- */

static int parse(const void *p, size_t n, xmlDoc **ret)
{
	const char *b = p;
	xmlDoc *doc;

	(void)pthread_once(&init_once, init_parser);
	while (n > 0 && (*b == ' ' || *b == '\n' || *b == '\r' || *b == '\t')) { /* kept alive by blanks */
		b++;
		n--;
	}
	if (n == 0 || n > S3XML_MAX || n > INT_MAX || memmem(b, n, "<!DOCTYPE", 9) != NULL)
		return -EBADMSG;
	doc = xmlReadMemory(b, (int)n, NULL, NULL,
			    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_COMPACT);
	if (doc == NULL)
		return -EBADMSG;
	if (doc->intSubset != NULL || xmlDocGetRootElement(doc) == NULL) {
		xmlFreeDoc(doc);
		return -EBADMSG;
	}
	*ret = doc;
	return 0;
}

/* A byte or a character reference at p that XML 1.0 forbids; its length, 0 when it is none. */
static size_t forbidden(const char *p, size_t n)
{
	unsigned long v = 0;
	size_t i = 2;
	bool hex;

	if ((unsigned char)p[0] < 0x20 && p[0] != '\t' && p[0] != '\n' && p[0] != '\r')
		return 1;
	if (n < 4 || p[0] != '&' || p[1] != '#')
		return 0;
	hex = p[2] == 'x';
	i += hex;
	for (; i < n && i < 12 && p[i] != ';'; i++) {
		char c = p[i] >= 'A' && p[i] <= 'F' ? (char)(p[i] | 0x20) : p[i];

		if (c >= '0' && c <= '9')
			v = v * (hex ? 16 : 10) + (unsigned long)(c - '0');
		else if (hex && c >= 'a' && c <= 'f')
			v = v * 16 + (unsigned long)(c - 'a' + 10);
		else
			return 0;
	}
	if (i >= n || p[i] != ';' || v >= 0x20 || v == '\t' || v == '\n' || v == '\r')
		return 0;
	return i + 1;
}

/*
 * Some servers (Ceph RGW) put control characters of a key, in fields that are not percent-encoded, into XML that cannot
 * hold them. Such a page is still of use: DEL in their place, and *ret_damaged so that nobody trusts a plain field.
 */
static int repair(const char *p, size_t n, char **ret, size_t *ret_n, bool *ret_damaged)
{
	char *out = malloc(n + 1);
	size_t k = 0, f;

	if (out == NULL)
		return -ENOMEM;
	*ret_damaged = false;
	for (size_t i = 0; i < n; k++) {
		f = forbidden(p + i, n - i);
		out[k] = f > 0 ? DAMAGED : p[i];
		*ret_damaged |= f > 0;
		i += f > 0 ? f : 1;
	}
	*ret = out;
	*ret_n = k;
	return 0;
}

static bool is_named(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0;
}

static const xmlNode *child(const xmlNode *n, const char *name)
{
	for (const xmlNode *c = n->children; c != NULL; c = c->next)
		if (is_named(c, name))
			return c;
	return NULL;
}

/* The text of an element; NULL when there is something else in it. */
static const char *text(const xmlNode *n)
{
	const xmlNode *c = n->children;

	if (c == NULL)
		return "";
	if (c->next != NULL || (c->type != XML_TEXT_NODE && c->type != XML_CDATA_SECTION_NODE) || c->content == NULL)
		return NULL;
	return (const char *)c->content;
}

/* Text of a child: "" when the child is absent, NULL when malformed. */
static const char *child_text(const xmlNode *n, const char *name)
{
	const xmlNode *c = child(n, name);

	return c == NULL ? "" : text(c);
}

static bool is_true(const char *s)
{
	return strcmp(s, "true") == 0 || strcmp(s, "True") == 0 || strcmp(s, "1") == 0;
}

/* Cut to fit, control characters and everything beyond ASCII as '?': words for a log line. */
static void words(char *dst, size_t cap, const char *src)
{
	size_t i = 0;

	if (src == NULL)
		src = "";
	for (; src[i] != '\0' && i < cap - 1; i++)
		dst[i] = src[i] >= 0x20 && src[i] < 0x7f ? src[i] : '?';
	dst[i] = '\0';
}

static void read_error(const xmlNode *root, struct s3_error *e)
{
	words(e->code, sizeof(e->code), child_text(root, "Code"));
	words(e->message, sizeof(e->message), child_text(root, "Message"));
	words(e->request_id, sizeof(e->request_id), child_text(root, "RequestId"));
	words(e->region, sizeof(e->region), child_text(root, "Region"));
	words(e->endpoint, sizeof(e->endpoint), child_text(root, "Endpoint"));
}

/* --- values ------------------------------------------------------------------------------------------------------- */

int s3xml_etag(const char *s, char out[OBJ_ETAG_MAX])
{
	size_t n;

	if (s[0] == 'W' && s[1] == '/')
		s += 2;
	n = strlen(s);
	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		s++;
		n -= 2;
	}
	if (n >= OBJ_ETAG_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++)
		if (s[i] <= 0x20 || s[i] >= 0x7f || s[i] == '"')
			return -EBADMSG;
	if (n == 1 && s[0] == '*') /* as a condition it would hold for every version */
		return -EBADMSG;
	memcpy(out, s, n);
	out[n] = '\0';
	return 0;
}

/* Exactly n digits. */
static bool digits(const char **s, int n, int64_t *ret)
{
	int64_t v = 0;

	for (int i = 0; i < n; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return false;
		v = v * 10 + (**s - '0');
	}
	*ret = v;
	return true;
}

/* Days from 1970-01-01 in the Gregorian calendar; the year begins in March so that the leap day is its last. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

int s3xml_time(const char *s, int64_t *ret_s)
{
	int64_t y, mo, d, h, mi, se, oh = 0, om = 0;
	int sign = 0;

	if (!digits(&s, 4, &y) || *s++ != '-' || !digits(&s, 2, &mo) || *s++ != '-' || !digits(&s, 2, &d) ||
	    (*s != 'T' && *s != ' '))
		return -EINVAL;
	s++;
	if (!digits(&s, 2, &h) || *s++ != ':' || !digits(&s, 2, &mi) || *s++ != ':' || !digits(&s, 2, &se))
		return -EINVAL;
	if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || se > 60)
		return -EINVAL;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++)
			;
	if (*s == '+' || *s == '-') {
		sign = *s++ == '+' ? -1 : 1;
		if (!digits(&s, 2, &oh))
			return -EINVAL;
		s += *s == ':';
		if (!digits(&s, 2, &om))
			return -EINVAL;
	} else if (*s == 'Z') {
		s++;
	}
	if (*s != '\0')
		return -EINVAL;
	*ret_s = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + se + sign * (oh * 3600 + om * 60);
	return 0;
}

/* Decodes a name. A NUL inside gives success and *ret = NULL. */
static int decode_name(const char *s, bool url, char **ret)
{
	char *d;
	ssize_t n;

	if (s == NULL)
		return -EBADMSG;
	d = strdup(s);
	if (d == NULL)
		return -ENOMEM;
	if (url) {
		for (char *c = d; *c != '\0'; c++)
			if (*c == '+')
				*c = ' ';
		n = str_pct_decode(d);
		if (n < 0) {
			free(d);
			return -EBADMSG;
		}
		if (strlen(d) != (size_t)n) {
			free(d);
			d = NULL;
		}
	}
	*ret = d;
	return 0;
}

/* --- listings ----------------------------------------------------------------------------------------------------- */

static int add_object(struct obj_listing *l, const xmlNode *n, bool url)
{
	_cleanup_free_ char *key = NULL;
	const char *etag = child_text(n, "ETag"), *size = child_text(n, "Size"), *time = child_text(n, "LastModified");
	char tag[OBJ_ETAG_MAX] = "";
	struct obj_list_entry *e;
	uint64_t bytes;
	int64_t t;
	int r;

	if (child(n, "Key") == NULL || etag == NULL || size == NULL || time == NULL)
		return -EBADMSG;
	r = decode_name(child_text(n, "Key"), url, &key);
	if (r < 0 || key == NULL)
		return r;
	if (s3xml_etag(etag, tag) < 0 || str_parse_u64(size, &bytes) < 0 || s3xml_time(time, &t) < 0)
		return -EBADMSG;
	r = page_add(l, key, strlen(key), &e);
	if (r < 0)
		return r;
	e->size = bytes;
	e->mtime_s = t;
	memcpy(e->etag, tag, sizeof(e->etag));
	return 0;
}

static int add_prefix(struct obj_listing *l, const xmlNode *n, bool url)
{
	_cleanup_free_ char *key = NULL;
	struct obj_list_entry *e;
	int r;

	if (child(n, "Prefix") == NULL)
		return -EBADMSG;
	r = decode_name(child_text(n, "Prefix"), url, &key);
	if (r < 0 || key == NULL)
		return r;
	r = page_add(l, key, strlen(key), &e);
	if (r == 0)
		e->is_prefix = true;
	return r;
}

static bool is_url_encoded(const xmlNode *root)
{
	const char *s = child_text(root, "EncodingType");

	return s != NULL && strcmp(s, "url") == 0;
}

static int read_list(const xmlNode *root, bool damaged, struct obj_listing *l)
{
	const char *more = child_text(root, "IsTruncated"), *token = child_text(root, "NextContinuationToken");
	bool url = is_url_encoded(root);
	int r = 0;

	if (!is_named(root, "ListBucketResult") || more == NULL || token == NULL || (damaged && !url))
		return -EBADMSG;
	for (const xmlNode *c = root->children; c != NULL && r == 0; c = c->next) {
		if (is_named(c, "Contents"))
			r = add_object(l, c, url);
		else if (is_named(c, "CommonPrefixes"))
			r = add_prefix(l, c, url);
	}
	if (r < 0)
		return r;
	l->truncated = is_true(more);
	if (l->truncated && token[0] == '\0')
		return -EBADMSG;
	if (l->truncated && !damaged)
		r = page_set_token(l, token);
	page_sort(l);
	return r;
}

int s3xml_list(const void *p, size_t n, struct obj_listing **ret)
{
	_cleanup_free_ char *repaired = NULL;
	struct obj_listing *l = NULL;
	bool damaged;
	xmlDoc *doc;
	int r = n > S3XML_MAX ? -EBADMSG : repair(p, n, &repaired, &n, &damaged);

	if (r == 0)
		r = parse(repaired, n, &doc);
	if (r < 0)
		return r;
	r = page_new(&l);
	if (r == 0)
		r = read_list(xmlDocGetRootElement(doc), damaged, l);
	xmlFreeDoc(doc);
	if (r < 0)
		obj_listing_free(l);
	else
		*ret = l;
	return r;
}

static int add_upload(struct obj_listing *l, const xmlNode *n, bool url, bool damaged)
{
	_cleanup_free_ char *key = NULL;
	const char *id = child_text(n, "UploadId"), *time = child_text(n, "Initiated");
	const xmlNode *initiator = child(n, "Initiator");
	struct obj_list_entry *e;
	int64_t t = 0;
	int r;

	if (child(n, "Key") == NULL || id == NULL || id[0] == '\0' || time == NULL)
		return -EBADMSG;
	r = decode_name(child_text(n, "Key"), url, &key);
	if (r < 0 || key == NULL || (damaged && strchr(key, DAMAGED) != NULL))
		return r;
	if (time[0] != '\0' && s3xml_time(time, &t) < 0)
		return -EBADMSG;
	r = page_add(l, key, strlen(key), &e);
	if (r < 0)
		return r;
	e->mtime_s = t;
	return page_set_upload(l, e, id, initiator != NULL ? child_text(initiator, "ID") : NULL);
}

static int read_uploads(const xmlNode *root, bool damaged, struct s3_uploads *u)
{
	const char *more = child_text(root, "IsTruncated"), *id = child_text(root, "NextUploadIdMarker");
	bool url = is_url_encoded(root);
	int r = 0;

	if (!is_named(root, "ListMultipartUploadsResult") || more == NULL || id == NULL)
		return -EBADMSG;
	for (const xmlNode *c = root->children; c != NULL && r == 0; c = c->next)
		if (is_named(c, "Upload"))
			r = add_upload(u->listing, c, url, damaged);
	if (r < 0)
		return r;
	u->listing->truncated = is_true(more);
	if (u->listing->truncated) {
		r = decode_name(child_text(root, "NextKeyMarker"), url, &u->next_key);
		if (r == 0 && (u->next_key == NULL || u->next_key[0] == '\0' ||
			       (damaged && strchr(u->next_key, DAMAGED) != NULL)))
			return -EBADMSG;
	}
	u->next_upload = strdup(u->listing->truncated ? id : "");
	if (r == 0 && u->next_key == NULL)
		u->next_key = strdup("");
	if (r == 0 && (u->next_upload == NULL || u->next_key == NULL))
		r = -ENOMEM;
	page_sort(u->listing);
	return r;
}

int s3xml_uploads(const void *p, size_t n, struct s3_uploads *ret)
{
	_cleanup_free_ char *repaired = NULL;
	struct s3_uploads u = {0};
	bool damaged;
	xmlDoc *doc;
	int r = n > S3XML_MAX ? -EBADMSG : repair(p, n, &repaired, &n, &damaged);

	if (r == 0)
		r = parse(repaired, n, &doc);
	if (r < 0)
		return r;
	r = page_new(&u.listing);
	if (r == 0)
		r = read_uploads(xmlDocGetRootElement(doc), damaged, &u);
	xmlFreeDoc(doc);
	if (r < 0) {
		obj_listing_free(u.listing);
		free(u.next_key);
		free(u.next_upload);
		return r;
	}
	*ret = u;
	return 0;
}

static int add_part(struct obj_listing *l, const xmlNode *n)
{
	const char *number = child_text(n, "PartNumber"), *size = child_text(n, "Size"), *etag = child_text(n, "ETag");
	char tag[OBJ_ETAG_MAX];
	uint64_t no, bytes;

	if (number == NULL || size == NULL || etag == NULL || str_parse_u64(number, &no) < 0 || no < 1 || no > 10000 ||
	    str_parse_u64(size, &bytes) < 0 || s3xml_etag(etag, tag) < 0)
		return -EBADMSG;
	return page_add_part(l, (unsigned)no, bytes, tag);
}

static int read_parts(const xmlNode *root, struct obj_listing *l)
{
	const char *more = child_text(root, "IsTruncated");
	int r = 0;

	if (!is_named(root, "ListPartsResult") || more == NULL)
		return -EBADMSG;
	for (const xmlNode *c = root->children; c != NULL && r == 0; c = c->next)
		if (is_named(c, "Part"))
			r = add_part(l, c);
	l->truncated = is_true(more);
	page_sort(l);
	return r;
}

int s3xml_parts(const void *p, size_t n, struct obj_listing **ret)
{
	struct obj_listing *l = NULL;
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	r = page_new(&l);
	if (r == 0)
		r = read_parts(xmlDocGetRootElement(doc), l);
	xmlFreeDoc(doc);
	if (r < 0)
		obj_listing_free(l);
	else
		*ret = l;
	return r;
}

/* --- single results ----------------------------------------------------------------------------------------------- */

int s3xml_create(const void *p, size_t n, char **ret_id)
{
	const xmlNode *root;
	const char *id;
	char *copy = NULL;
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	id = child_text(root, "UploadId");
	if (!is_named(root, "InitiateMultipartUploadResult") || id == NULL || id[0] == '\0') {
		r = -EBADMSG;
	} else {
		copy = strdup(id);
		r = copy == NULL ? -ENOMEM : 0;
	}
	xmlFreeDoc(doc);
	if (r == 0)
		*ret_id = copy;
	return r;
}

static int read_etag(const xmlNode *root, char ret_etag[OBJ_ETAG_MAX])
{
	const char *s = child_text(root, "ETag");

	return s == NULL ? -EBADMSG : s3xml_etag(s, ret_etag);
}

int s3xml_copy(const void *p, size_t n, char ret_etag[OBJ_ETAG_MAX], int64_t *ret_mtime_s, struct s3_error *ret_err)
{
	const xmlNode *root;
	const char *time;
	char etag[OBJ_ETAG_MAX];
	int64_t t = 0;
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	time = child_text(root, "LastModified");
	if (is_named(root, "Error")) {
		read_error(root, ret_err);
		r = -EREMOTEIO;
	} else if ((!is_named(root, "CopyObjectResult") && !is_named(root, "CopyPartResult")) || time == NULL) {
		r = -EBADMSG;
	} else {
		r = read_etag(root, etag);
		if (r == 0 && (etag[0] == '\0' || (time[0] != '\0' && s3xml_time(time, &t) < 0)))
			r = -EBADMSG;
	}
	xmlFreeDoc(doc);
	if (r == 0) {
		memcpy(ret_etag, etag, OBJ_ETAG_MAX);
		*ret_mtime_s = t;
	}
	return r;
}

int s3xml_complete(const void *p, size_t n, char ret_etag[OBJ_ETAG_MAX], struct s3_error *ret_err)
{
	const xmlNode *root;
	char etag[OBJ_ETAG_MAX];
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	if (is_named(root, "Error")) {
		read_error(root, ret_err);
		r = -EREMOTEIO;
	} else if (!is_named(root, "CompleteMultipartUploadResult")) {
		r = -EBADMSG;
	} else {
		r = read_etag(root, etag);
	}
	xmlFreeDoc(doc);
	if (r == 0)
		memcpy(ret_etag, etag, OBJ_ETAG_MAX);
	return r;
}

int s3xml_error(const void *p, size_t n, struct s3_error *ret)
{
	const xmlNode *root;
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	if (is_named(root, "Error"))
		read_error(root, ret);
	else
		r = -EBADMSG;
	xmlFreeDoc(doc);
	return r;
}

int s3xml_delete(const void *p, size_t n, bool *ret_failed, struct s3_error *ret, char *ret_key, size_t cap)
{
	const xmlNode *root;
	struct s3_error e;
	bool failed = false;
	xmlDoc *doc;
	int r = parse(p, n, &doc);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	if (is_named(root, "Error")) {
		read_error(root, ret);
		r = -EREMOTEIO;
	} else if (!is_named(root, "DeleteResult")) {
		r = -EBADMSG;
	}
	for (const xmlNode *c = root->children; r == 0 && !failed && c != NULL; c = c->next) {
		if (!is_named(c, "Error"))
			continue;
		read_error(c, &e);
		if (strcmp(e.code, "NoSuchKey") == 0)
			continue;
		failed = true;
		*ret = e;
		words(ret_key, cap, child_text(c, "Key"));
	}
	xmlFreeDoc(doc);
	if (r == 0)
		*ret_failed = failed;
	return r;
}

/* --- bodies that we send ------------------------------------------------------------------------------------------ */

bool s3xml_can_hold(const char *key)
{
	const unsigned char *u = (const unsigned char *)key;

	for (; *u != '\0'; u++) {
		if (*u < 0x20 && *u != '\t' && *u != '\n' && *u != '\r')
			return false;
		if (u[0] == 0xef && u[1] == 0xbf && (u[2] == 0xbe || u[2] == 0xbf)) /* U+FFFE, U+FFFF */
			return false;
	}
	return str_is_utf8(key, strlen(key));
}

/* Blanks other than ' ' as references: a parser would make "\r\n" one "\n". */
static void add_escaped(struct str *out, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '&')
			str_add(out, "&amp;");
		else if (*s == '<')
			str_add(out, "&lt;");
		else if (*s == '>')
			str_add(out, "&gt;");
		else if (*s == '"')
			str_add(out, "&quot;");
		else if (*s == '\t' || *s == '\n' || *s == '\r')
			str_addf(out, "&#%d;", *s);
		else
			str_addc(out, *s);
	}
}

void s3xml_add_delete(struct str *out, const char *const *keys, size_t n)
{
	str_add(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		     "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
	for (size_t i = 0; i < n; i++) {
		str_add(out, "<Object><Key>");
		add_escaped(out, keys[i]);
		str_add(out, "</Key></Object>");
	}
	str_add(out, "</Delete>");
}

void s3xml_add_complete(struct str *out, const struct obj_part *parts, size_t n)
{
	str_add(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		     "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < n; i++) {
		str_addf(out, "<Part><PartNumber>%u</PartNumber><ETag>&quot;", parts[i].number);
		add_escaped(out, parts[i].etag);
		str_add(out, "&quot;</ETag></Part>");
	}
	str_add(out, "</CompleteMultipartUpload>");
}
