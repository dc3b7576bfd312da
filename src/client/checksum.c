/* checksum.c: see checksum.h. */
#include "checksum.h"

#include "cleanup.h"

#include <openssl/evp.h>
#include <string.h>

static void ctx_freep(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

static bool finish(EVP_MD_CTX *ctx, char ret_hex[TL__CHECKSUM_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len;

    if (EVP_DigestFinal_ex(ctx, digest, &len) != 1 || len != (TL__CHECKSUM_SIZE - 1) / 2)
        return false;
    for (unsigned int i = 0; i < len; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * len] = '\0';
    return true;
}

bool tl__checksum(const char *text, size_t len, char ret_hex[TL__CHECKSUM_SIZE])
{
    TL_CLEANUP(ctx_freep)
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    return ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
           EVP_DigestUpdate(ctx, text, len) == 1 && finish(ctx, ret_hex);
}

bool tl__checksum_files(const struct tl__sql_file *files, size_t count,
                        char ret_hex[TL__CHECKSUM_SIZE])
{
    TL_CLEANUP(ctx_freep)
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
        return false;
    for (size_t i = 0; i < count; i++) {
        /* the NULs stand between name and text, and between files */
        if (EVP_DigestUpdate(ctx, files[i].name, strlen(files[i].name) + 1) != 1 ||
            EVP_DigestUpdate(ctx, files[i].text, files[i].length + 1) != 1)
            return false;
    }
    return finish(ctx, ret_hex);
}
