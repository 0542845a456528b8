/* Error messages: what was wrong, where, and (in the words of the caller) what to do. */
#include <stdio.h>
#include <string.h>

#include "core.h"

static void write_message(gs_error *error, gs_status code, const char *prefix, const char *format, va_list args) {
  error->code = code;
  size_t used = strlen(prefix);
  if (used >= sizeof error->message) used = sizeof error->message - 1;
  memcpy(error->message, prefix, used);
  error->message[used] = 0;
  vsnprintf(error->message + used, sizeof error->message - used, format, args);
}

gs_status gs_fail(gs_error *error, gs_status code, const char *format, ...) {
  if (error != NULL) {
    va_list args;
    va_start(args, format);
    write_message(error, code, "", format, args);
    va_end(args);
  }
  return code;
}

gs_status gs_fail_op(gs_error *error, gs_status code, const gs_op *op, const char *format, ...) {
  if (error != NULL) {
    char prefix[160];
    const char *kind = op->kind < GS_OP_COUNT && gs_op_types[op->kind].name != NULL ? gs_op_types[op->kind].name : "?";
    if (op->source != NULL && op->source[0] != 0)
      snprintf(prefix, sizeof prefix, "%s '%.60s' (%.60s): ", kind, op->name, op->source);
    else
      snprintf(prefix, sizeof prefix, "%s '%.60s': ", kind, op->name);
    va_list args;
    va_start(args, format);
    write_message(error, code, prefix, format, args);
    va_end(args);
  }
  return code;
}
