"""The parts of the tiny FLUX besides its autoencoder: two text encoders and the transformer."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from demo.tokenizers import MAX_TOKENS, clip_tokenizer, t5_tokenizer, words

TEXT_WIDTH = 64
HEADS = 6
HEAD_WIDTH = 32


def build_clip() -> CLIPTextModel:
    """A tiny CLIP text encoder; its pooled output modulates every block."""
    ids = words()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(ids),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=ids["<s>"],
            eos_token_id=ids["</s>"],
            pad_token_id=ids["<pad>"],
        )
    )


def build_t5() -> T5EncoderModel:
    """A tiny T5 encoder; its tokens are attended to beside the picture's."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(words()),
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            relative_attention_num_buckets=16,
            relative_attention_max_distance=MAX_TOKENS,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_transformer() -> FluxTransformer2DModel:
    """FLUX's transformer with 2 double and 4 single blocks, 192 wide."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )


def pack(latents: Tensor) -> Tensor:
    """Latents (B, 16, 2h, 2w) as FLUX's tokens (B, h·w, 64)."""
    batch, channels, height, width = latents.shape
    parts = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(batch, height // 2 * (width // 2), channels * 4)


def positions(height: int, width: int) -> Tensor:
    """FLUX's position ids (height·width, 3) of a picture of that many tokens."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


class DemoFlux(nn.Module):
    """Text encoders and transformer, trained together exactly as FluxPipeline calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.clip, self.t5, self.transformer = build_clip(), build_t5(), build_transformer()
        self._clip_tokens, self._t5_tokens = clip_tokenizer(), t5_tokenizer()

    def tokenize(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """CLIP's and T5's ids, each (B, 16); no mask, because FluxPipeline passes none."""
        options = {
            "padding": "max_length",
            "max_length": MAX_TOKENS,
            "truncation": True,
            "return_tensors": "pt",
        }
        clip, t5 = (tokens(captions, **options) for tokens in (self._clip_tokens, self._t5_tokens))
        return clip.input_ids, t5.input_ids

    def encode(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token states (B, 16, 64) and pooled states (B, 64)."""
        clip_ids, t5_ids = self.tokenize(captions)
        return self.t5(t5_ids)[0], self.clip(clip_ids).pooler_output

    def forward(self, noised: Tensor, sigma: Tensor, captions: list[str], size: tuple[int, int]) -> Tensor:
        """The predicted velocity (B, h·w, 64) at noise level `sigma` (B,) of pictures of `size` tokens."""
        states, pooled = self.encode(captions)
        velocity: Tensor = self.transformer(
            hidden_states=noised,
            timestep=sigma,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            img_ids=positions(*size),
            txt_ids=torch.zeros(MAX_TOKENS, 3),
            return_dict=False,
        )[0]
        return velocity
