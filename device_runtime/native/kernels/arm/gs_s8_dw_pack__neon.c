/* Packs int8 depthwise weights for NEON (neon_dw.h). */
#include "neon_dw.h"

void gs_s8_dw_pack__neon(const gs_dw_args *a, void *to) {
  gs_dwn_weights *p = to;
  const int16_t *w = a->w;
  const uint32_t taps = a->kh * a->kw;
  memset(to, 0, GS_DWN_BYTES(taps));
  for (int i = 0; i < 4; i++) memcpy(p->bias[i], a->bias, sizeof p->bias[i]);
  memcpy(p->scale, a->q.scale, sizeof p->scale);
  for (uint32_t i = 0; i < taps * 4; i++) p->w[i / 16][i % 16] = (int8_t)w[i];
}
