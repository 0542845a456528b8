/* Packs int8 depthwise weights for SDOT (neon_dw.h). */
#include "neon_dw.h"

void gs_s8_dw_pack__neondot(const gs_dw_args *a, void *to) {
  gs_dwn_weights *p = to;
  const int16_t *w = a->w;
  const uint32_t dots = (a->kw + 3) / 4;
  const uint32_t each = a->kw == 5 && a->sw == 1 ? 3 : 4; /* neighbouring pixels share a window of three taps, one byte up */
  memset(to, 0, GS_DWDOT_BYTES(a->kh, dots));
  for (int i = 0; i < 4; i++) memcpy(p->bias[i], a->bias, sizeof p->bias[i]);
  memcpy(p->scale, a->q.scale, sizeof p->scale);
  for (uint32_t ky = 0; ky < a->kh; ky++)
    for (uint32_t kx = 0; kx < a->kw; kx++)
      for (uint32_t l = 0; l < 4; l++)
        p->w[ky * dots + kx / each][l * 4 + kx % each] = (int8_t)w[((size_t)ky * a->kw + kx) * 4 + l];
}
